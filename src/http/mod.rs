//! The HTTP front: engine, router, handlers.

pub mod engine;
pub mod json;
