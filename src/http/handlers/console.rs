//! `/console/`: a small page for people, served from the binary; and the redirects that lead there.

use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::headers::{self, HTML};
use crate::http::reply::{self, Reply};

const CONSOLE: &str = "/console/";

/// The files of the page: path below `/console/`, type, content.
const FILES: [(&str, &str, &str); 4] = [
    ("", HTML, include_str!("../console/index.html")),
    ("static/css/style.css", "text/css; charset=utf-8", include_str!("../console/style.css")),
    ("static/js/app.js", "text/javascript; charset=utf-8", include_str!("../console/app.js")),
    ("static/favicon.svg", "image/svg+xml", include_str!("../console/favicon.svg")),
];

/// The page runs only what comes with it, and talks only to the node that served it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/`
pub fn root(call: Call, reply: Reply) {
    reply.send(redirect(&call, 302, "Found"));
}

/// `/console`
pub fn without_slash(call: Call, reply: Reply) {
    reply.send(redirect(&call, 301, "Moved Permanently"));
}

/// Everything that begins with `/console`.
pub fn handle(call: Call, reply: Reply) {
    let path = call.request.path.strip_prefix(CONSOLE);
    if path == Some("index.html") {
        return reply.send(reply::with(reply::empty(301), headers::LOCATION, "./"));
    }
    let file = path.and_then(|path| FILES.iter().find(|(name, _, _)| *name == path));
    reply.send(match file {
        Some((_, content_type, content)) => {
            let answer = reply::body(200, content_type, *content);
            reply::with(answer, "Content-Security-Policy", POLICY)
        }
        None => reply::text_error(404, "404 page not found"),
    });
}

fn redirect(call: &Call, status: u16, phrase: &str) -> Response {
    let answer = match call.request.method.as_str() {
        "GET" => reply::body(status, HTML, format!("<a href=\"{CONSOLE}\">{phrase}</a>.\n\n")),
        "HEAD" => reply::with(reply::empty(status), headers::CONTENT_TYPE, HTML),
        _ => reply::empty(status),
    };
    reply::with(answer, headers::LOCATION, CONSOLE)
}
