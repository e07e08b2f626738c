//! The way of every request through the API, up to its handler. Runs on the engine's workers.
//!
//! Order of processing, which clients can see: common headers, `OPTIONS`, the query string, the path, the permissions, the
//! method; then the handler. It must never look into a body.

use super::backend::Backend;
use super::basic;
use super::engine::config::SCRATCH_BYTES_MAX;
use super::engine::{Body, Handler, HeadView, Request, Responder, Response};
use super::headers::{self, CommonHeaders};
use super::params::{self, Flag, Params};
use super::reply::{self, Reply};
use super::router::{self, Route};
use crate::auth::{AccessControl, Credentials};
use crate::config::{Config, Launch, build_info};
use crate::limits::Turn;
use crate::vars;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Bodies up to this many bytes are read also when the request will be refused: the client keeps its connection.
const BODY_READ_ANYWAY_BYTES: u64 = 64 * 1024;
/// The largest database that can be sent: what scratch files may hold.
const DATABASE_BYTES_MAX: u64 = SCRATCH_BYTES_MAX;

/// What all handlers share.
pub struct Api {
    pub backend: Arc<dyn Backend>,
    pub config: Arc<Config>,
    pub launch: Launch,
    pub access: Arc<AccessControl>,
}

/// A request that has found its handler.
pub struct Call {
    pub api: Arc<Api>,
    pub request: Request,
    pub params: Params,
    /// Who sends it. What this node lets them do the leader may still refuse.
    pub caller: Credentials,
    pub started: Instant,
    /// Held from the reading of a large body until the answer is made.
    pub turn: Option<Turn>,
}

impl Call {
    /// Takes the body out, into memory.
    ///
    /// # Errors
    /// A spooled body cannot be read back.
    pub fn take_body(&mut self) -> io::Result<Vec<u8>> {
        std::mem::replace(&mut self.request.body, Body::Memory(Vec::new())).into_bytes()
    }

    /// Seconds since the request came, when the client asked for timings.
    pub fn time(&self) -> Option<f64> {
        self.params.has(Flag::Timings).then(|| self.started.elapsed().as_secs_f64())
    }
}

/// The API as a handler of the engine.
pub struct Front {
    api: Arc<Api>,
    common: Arc<CommonHeaders>,
}

/// A request whose head has passed all checks.
struct Admitted {
    route: &'static Route,
    params: Params,
    caller: Credentials,
}

/// A request that is answered without its handler.
struct Refused {
    /// Where it has found one.
    route: Option<&'static Route>,
    answer: Response,
}

impl Front {
    pub fn new(backend: Arc<dyn Backend>, config: Arc<Config>, launch: Launch, access: Arc<AccessControl>) -> Front {
        let common = Arc::new(CommonHeaders {
            version: build_info::VERSION.to_owned(),
            allow_origin: config.http.allow_origin.clone(),
            authenticates: access.is_on(),
        });
        Front { api: Arc::new(Api { backend, config, launch, access }), common }
    }

    /// All that is decided from the head alone. Has no effect: it may be asked twice.
    fn admit(&self, head: &HeadView<'_>) -> Result<Admitted, Refused> {
        let without_route = |answer| Refused { route: None, answer };
        if head.method == "OPTIONS" {
            return Err(without_route(reply::empty(200)));
        }
        let params = Params::parse(head.query).map_err(|error| without_route(reply::text_error(400, error)))?;
        let Some(path) = params::decode_path(head.path) else {
            return Err(without_route(reply::text_error(400, "invalid path")));
        };
        let Some(route) = router::find(&path) else {
            return Err(without_route(reply::empty(404)));
        };
        let caller = basic::caller(head.headers);
        if !self.api.access.permits(&caller, route.permissions) {
            return Err(Refused::by(route, 401));
        }
        if !route.allows(head.method) {
            return Err(Refused::by(route, 405));
        }
        Ok(Admitted { route, params, caller })
    }

    /// Counts a request that has found its route, once.
    fn count(&self, route: &Route, is_permitted: bool) {
        if let Some(hits) = route.hits {
            hits.add(1);
        }
        if self.api.access.is_on() && !route.permissions.is_empty() {
            let counter = if is_permitted { &vars::http::AUTH_OK } else { &vars::http::AUTH_FAIL };
            counter.add(1);
        }
    }

    fn refuse(&self, refused: Refused) -> Response {
        if let Some(route) = refused.route {
            self.count(route, refused.answer.status != 401);
        }
        refused.answer
    }
}

impl Refused {
    /// No body, but the type of the answer that the request did not get.
    fn by(route: &'static Route, status: u16) -> Refused {
        let answer = reply::empty(status);
        let answer = match route.content_type {
            Some(content_type) => reply::with(answer, headers::CONTENT_TYPE, content_type),
            None => answer,
        };
        Refused { route: Some(route), answer }
    }
}

impl Handler for Front {
    fn body_bytes_max(&self, path: &str, others_max: u64) -> u64 {
        let takes_database = params::decode_path(path).is_some_and(|path| router::takes_database(&path));
        // It stays in its scratch file, and memory holds a part of it at a time.
        if takes_database { others_max.max(DATABASE_BYTES_MAX) } else { others_max }
    }

    fn handle(&self, request: Request, responder: Responder) {
        let started = Instant::now();
        let reply = Reply::new(responder, self.common.clone());
        let Request { method, path, query, headers, .. } = &request;
        match self.admit(&HeadView { method, path, query, headers, body_bytes: Some(request.body.len()) }) {
            Err(refused) => reply.send(self.refuse(refused)),
            Ok(Admitted { route, params, caller }) => {
                self.count(route, true);
                (route.handle)(Call { api: self.api.clone(), request, params, caller, started, turn: None }, reply);
            }
        }
    }

    /// Who may do nothing here must not fill this node's disk with a body either.
    fn refuse_early(&self, head: &HeadView<'_>) -> Option<Response> {
        let is_large = head.body_bytes.is_none_or(|bytes| bytes > BODY_READ_ANYWAY_BYTES);
        if !self.api.access.is_on() || !is_large {
            return None;
        }
        let mut answer = self.refuse(self.admit(head).err()?);
        self.common.add_to(&mut answer);
        Some(answer)
    }
}
