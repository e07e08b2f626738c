//! What a log entry says, and what comes of it: plain data, known to every layer, knowing none.
//!
//! Reading order: [`Value`] and [`Statement`] (what a client sends), [`Request`] and [`Command`] (what an entry
//! carries, with its versioned bytes in `codec`), [`RequestId`] (by what a repeat is known), [`StatementResult`], [`Outcome`] and
//! [`ResultSink`] (what comes back).

mod bytes;
pub mod codec;
pub mod outcome;
pub mod request_id;
pub mod result;
pub mod statement;
pub mod value;

pub use codec::DecodeError;
pub use outcome::{Outcome, Repeat};
pub use request_id::{KeyError, RequestId};
pub use result::{Column, ResultSink, SinkFull, StatementResult};
pub use statement::{Action, Command, LOAD_CHUNK_BYTES, LoadChunk, LoadCommit, Parameter, Request, Statement};
pub use value::{Value, ValueRef};
