//! The OpenAPI document, made from the code.

use ieum_protocol::{POSITION_HEADER, SEEN_HEADER, STALE_HEADER};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{RefOr, Required};
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
    modifiers(&Token, &Positions),
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        api.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The headers that every route takes and every answer has.
struct Positions;

impl Modify for Positions {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let text = || Object::with_type(Type::String);
        let seen = ParameterBuilder::new()
            .name(SEEN_HEADER)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("The highest position that the client has seen: the answer is not older."))
            .schema(Some(text()))
            .build();
        let header = |what: &str| HeaderBuilder::new().schema(Some(text())).description(Some(what)).build();
        let here = header("Where the answer was read, or at least where the change took effect.");
        let stale = header("`true` while the cell makes no progress on this server.");
        for item in api.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                operation.parameters.get_or_insert_default().push(seen.clone().into());
                for response in operation.responses.responses.values_mut() {
                    if let RefOr::T(response) = response {
                        response.headers.insert(POSITION_HEADER.to_owned(), here.clone().into());
                        response.headers.insert(STALE_HEADER.to_owned(), stale.clone().into());
                    }
                }
            }
        }
    }
}

/// The document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}
