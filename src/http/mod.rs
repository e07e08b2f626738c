//! The HTTP front: engine, router, handlers.

pub mod engine;
pub mod headers;
pub mod json;
pub mod params;
pub mod reply;
mod scan;
pub mod statements;
