//! The way of every request through the API, up to its handler. Runs on the engine's workers.
//!
//! Order of processing, which clients can see: common headers, `OPTIONS`, the query string, the path, the method; then
//! the handler. It must never look into a body.

use super::backend::Backend;
use super::engine::config::SCRATCH_BYTES_MAX;
use super::engine::{Body, Handler, Request, Responder};
use super::headers::{self, CommonHeaders};
use super::params::{self, Flag, Params};
use super::reply::{self, Reply};
use super::router;
use crate::config::{Config, Launch, build_info};
use crate::limits::Turn;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// The largest database that can be sent: what scratch files may hold.
const DATABASE_BYTES_MAX: u64 = SCRATCH_BYTES_MAX;

/// What all handlers share.
pub struct Api {
    pub backend: Arc<dyn Backend>,
    pub config: Arc<Config>,
    pub launch: Launch,
}

/// A request that has found its handler.
pub struct Call {
    pub api: Arc<Api>,
    pub request: Request,
    pub params: Params,
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

impl Front {
    pub fn new(backend: Arc<dyn Backend>, config: Arc<Config>, launch: Launch) -> Front {
        let allow_origin = config.http.allow_origin.clone();
        let common = Arc::new(CommonHeaders { version: build_info::VERSION.to_owned(), allow_origin });
        Front { api: Arc::new(Api { backend, config, launch }), common }
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
        if request.method == "OPTIONS" {
            return reply.send(reply::empty(200));
        }
        let params = match Params::parse(&request.query) {
            Ok(params) => params,
            Err(error) => return reply.send(reply::text_error(400, error)),
        };
        let Some(path) = params::decode_path(&request.path) else {
            return reply.send(reply::text_error(400, "invalid path"));
        };
        let Some(route) = router::find(&path) else {
            return reply.send(reply::empty(404));
        };
        if let Some(hits) = route.hits {
            hits.add(1);
        }
        if !route.allows(&request.method) {
            let answer = reply::empty(405);
            return reply.send(match route.content_type {
                Some(content_type) => reply::with(answer, headers::CONTENT_TYPE, content_type),
                None => answer,
            });
        }
        (route.handle)(Call { api: self.api.clone(), request, params, started, turn: None }, reply);
    }
}
