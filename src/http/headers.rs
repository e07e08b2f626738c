//! Header names and values of the API, and the headers that every answer carries. Pure; any thread.

use super::engine::Response;

pub const JSON: &str = "application/json; charset=utf-8";
pub const TEXT: &str = "text/plain; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";
pub const OCTET_STREAM: &str = "application/octet-stream";
pub const SQL: &str = "application/sql";

pub const CONTENT_TYPE: &str = "Content-Type";
pub const LOCATION: &str = "Location";
/// Says not to guess a type; on every text error.
pub const CONTENT_TYPE_OPTIONS: &str = "X-Content-Type-Options";
/// Who served a result: this node's HTTP address, or the leader's Raft address when it was forwarded.
pub const SERVED_BY: &str = "X-Rqlite-Served-By";
const VERSION: &str = "X-Rqlite-Version";
const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
const ALLOW_METHODS: &str = "Access-Control-Allow-Methods";
const ALLOW_HEADERS: &str = "Access-Control-Allow-Headers";
const ALLOW_CREDENTIALS: &str = "Access-Control-Allow-Credentials";
/// Makes browsers ask for a name and a password.
const AUTHENTICATE: &str = "Www-Authenticate";

/// The headers that do not depend on the request.
#[derive(Clone, Debug)]
pub struct CommonHeaders {
    /// Version of this build, exactly one value.
    pub version: String,
    /// `-http-allow-origin`.
    pub allow_origin: Option<String>,
    /// Callers have to say who they are.
    pub authenticates: bool,
}

impl CommonHeaders {
    /// Adds them to an answer.
    pub fn add_to(&self, response: &mut Response) {
        response.headers.push((VERSION, self.version.clone()));
        response.headers.push((ALLOW_METHODS, "OPTIONS, GET, POST".to_owned()));
        let allowed = if self.authenticates { "Content-Type, Authorization" } else { "Content-Type" };
        response.headers.push((ALLOW_HEADERS, allowed.to_owned()));
        if self.authenticates {
            response.headers.push((ALLOW_CREDENTIALS, "true".to_owned()));
            response.headers.push((AUTHENTICATE, "Basic realm=\"rqlite\"".to_owned()));
        }
        if let Some(origin) = &self.allow_origin {
            response.headers.push((ALLOW_ORIGIN, origin.clone()));
        }
    }
}
