//! The live page at `/`: one answer, put together from its parts when it is first asked for.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};

use super::routes::{Reply, reply};

static PAGE: LazyLock<Bytes> = LazyLock::new(|| {
    let page = include_str!("page/index.html").replace("/*STYLE*/", include_str!("page/style.css")).replace(
        "/*APP*/",
        concat!(include_str!("page/text.js"), include_str!("page/feed.js"), include_str!("page/app.js")),
    );
    Bytes::from(page)
});

/// Nothing from elsewhere, and no connection but to this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'";

pub(super) fn answer() -> Reply {
    let mut page = reply(StatusCode::OK, "text/html; charset=utf-8", PAGE.clone());
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Its URL may hold a token.
    page.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    page
}
