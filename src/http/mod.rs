//! The HTTP front: engine, router, handlers.

pub mod engine;
pub mod params;
mod scan;
pub mod statements;
