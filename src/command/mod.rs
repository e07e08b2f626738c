//! What a log entry says, and what comes of it: plain data, known to every layer, knowing none.
//!
//! Reading order: [`Value`] and [`Statement`] (what a client sends), [`Request`] and [`Command`] (what an entry
//! carries, with its versioned bytes in `codec`), [`StatementResult`] and [`ResultSink`] (what comes back).

pub mod codec;
pub mod result;
pub mod statement;
pub mod value;

pub use codec::DecodeError;
pub use result::{Column, ResultSink, SinkFull, StatementResult};
pub use statement::{Action, Command, Parameter, Request, Statement};
pub use value::{Value, ValueRef};
