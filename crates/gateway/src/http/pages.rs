//! Pages for people and probes: the status page, the API's description, health, metrics.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use ieum_protocol::errors::Code;

use super::unlisted::Segment;
use super::{Fail, openapi};
use crate::Gateway;
use crate::cell::Cell;
use crate::metrics::{Metrics, figure};

const STYLE: &str = include_str!("pages.css");

/// A page in the project's looks. `body` is HTML.
fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body>\
         <main>{body}</main></body></html>"
    ))
}

/// Text as HTML shows it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The status page, until there is a web client.
pub(crate) async fn home<C: Cell>(State(gateway): State<Arc<Gateway<C>>>) -> Html<String> {
    let (state, words, worte) = if gateway.stalled() {
        (
            "bad",
            "The cell makes no progress just now. Messages wait on people's devices.",
            "지금은 메시지를 처리하지 못하고 있습니다. 보낸 메시지는 기기에 보관됩니다.",
        )
    } else {
        ("good", "Messages flow.", "메시지가 오가고 있습니다.")
    };
    let (sessions, position) = (gateway.hub.sessions(), gateway.cell.applied());
    page(
        "Ieum 이음",
        &format!(
            "<h1>Ieum <span lang=\"ko\">이음</span></h1><p class=\"{state}\">{words}</p><p lang=\"ko\">{worte}</p>\
             <dl><dt>Sessions <span lang=\"ko\">접속</span></dt><dd>{sessions}</dd>\
             <dt>Position <span lang=\"ko\">위치</span></dt><dd>{position}</dd></dl>\
             <p><a href=\"/docs\">HTTP API</a> · <a href=\"/openapi.json\">OpenAPI</a> · <a href=\"/metrics\">Metrics</a></p>"
        ),
    )
}

/// The OpenAPI document.
pub(crate) async fn openapi_json() -> Response {
    let json = openapi::document().to_json().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// The API as a page to read.
#[expect(clippy::indexing_slicing, reason = "what a JSON value does not hold is null")]
pub(crate) async fn docs() -> Html<String> {
    let document = serde_json::to_value(openapi::document()).unwrap_or_default();
    let mut body = "<h1>Ieum HTTP API</h1>".to_owned();
    body.push_str(&paragraph(&document["info"]["description"]));
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            describe(&mut body, path, method, operation);
        }
    }
    body.push_str("<h1>Objects</h1>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(body, "<h2 id=\"{0}\">{0}</h2>", escape(name));
        body.push_str(&paragraph(&schema["description"]));
        let json = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = write!(body, "<details><summary>Schema</summary><pre>{}</pre></details>", escape(&json));
    }
    body.push_str("<h1>Errors</h1><dl>");
    for code in Code::ALL {
        let _ = write!(
            body,
            "<dt id=\"{0}\"><code>{0}</code> {1}</dt><dd>{2}</dd>",
            code.as_str(),
            code.status(),
            escape(code.title())
        );
    }
    body.push_str("</dl>");
    page("Ieum HTTP API", &body)
}

fn paragraph(text: &serde_json::Value) -> String {
    text.as_str().map(|text| format!("<p>{}</p>", escape(text))).unwrap_or_default()
}

#[expect(clippy::indexing_slicing, reason = "what a JSON value does not hold is null")]
fn describe(body: &mut String, path: &str, method: &str, operation: &serde_json::Value) {
    let _ = write!(body, "<h2><code>{} {}</code></h2>", escape(&method.to_uppercase()), escape(path));
    body.push_str(&paragraph(&operation["summary"]));
    body.push_str(&paragraph(&operation["description"]));
    body.push_str("<dl>");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        let at = parameter["in"].as_str().unwrap_or_default();
        let text = parameter["description"].as_str().unwrap_or_default();
        let _ = write!(body, "<dt><code>{}</code> ({})</dt><dd>{}</dd>", escape(name), escape(at), escape(text));
    }
    for (what, value) in [("Body", &operation["requestBody"]), ("Answer", &operation["responses"]["200"])] {
        let schema = value["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or_default();
        if let Some(name) = schema.rsplit('/').next().filter(|name| !name.is_empty()) {
            let _ = write!(body, "<dt>{what}</dt><dd><a href=\"#{0}\">{0}</a></dd>", escape(name));
        }
    }
    body.push_str("</dl>");
}

/// What an error's code means.
pub(crate) async fn problem(Segment(code): Segment) -> Result<Html<String>, Fail> {
    let code = Code::from_word(&code).ok_or(Code::NotFound)?;
    let again = code.retry_after_ms().map_or("Trying again does not help by itself.", |_| "Trying again helps.");
    let body = format!("<h1><code>{}</code></h1><p>{}</p><p>{again}</p>", code.as_str(), escape(code.title()));
    Ok(page(code.as_str(), &body))
}

/// Whether the process is alive.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether clients should come here.
pub(crate) async fn readyz<C: Cell>(State(gateway): State<Arc<Gateway<C>>>) -> Response {
    if *gateway.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    if gateway.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if gateway.stalled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the cell makes no progress\n").into_response();
    }
    "ready\n".into_response()
}

/// Figures for Prometheus.
pub(crate) async fn metrics<C: Cell>(State(gateway): State<Arc<Gateway<C>>>) -> Response {
    let mut page = String::new();
    let delivered = gateway.hub.delivered.load(std::sync::atomic::Ordering::Relaxed);
    gateway.metrics.page(&mut page, gateway.hub.sessions(), delivered);
    let [told, shed] =
        [&gateway.signals.told, &gateway.signals.shed].map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
    Metrics::signals(&mut page, told, shed);
    for (kind, lane) in [("reads", &gateway.reads), ("hellos", &gateway.hellos), ("passwords", &gateway.passwords.lane)]
    {
        lane.page(&mut page, kind);
    }
    figure(&mut page, "gauge", "applied_generation", "Generation of the log.", gateway.cell.applied().generation);
    figure(
        &mut page,
        "counter",
        "applied_ordinal",
        "Position that the view stands at.",
        gateway.cell.applied().ordinal,
    );
    let waiting = gateway.cell.waiting().as_secs_f64();
    figure(
        &mut page,
        "gauge",
        "oldest_command_seconds",
        "For how long the oldest command waits for its outcome.",
        waiting,
    );
    figure(&mut page, "gauge", "stalled", "1 while the cell makes no progress.", u8::from(gateway.stalled()));
    gateway.cell.metrics(&mut page);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}
