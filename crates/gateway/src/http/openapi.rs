//! The OpenAPI document, made from the code.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{accounts, changes, rooms};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ieum",
        version = "1",
        description = "Everything of Ieum that is not the live stream. Times are milliseconds since 1970-01-01 UTC, ids whole numbers \
                       below 2^53. Errors are problem details (RFC 9457) with a stable `code`."
    ),
    paths(
        accounts::register, accounts::sign_in, accounts::token, accounts::devices, accounts::log_out, accounts::me,
        accounts::set_password, accounts::find, accounts::user, rooms::list, rooms::one, rooms::messages, rooms::members,
        rooms::receipts, changes::change
    ),
    modifiers(&Token),
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        api.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}
