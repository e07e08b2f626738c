//! JSON as clients of this API have always received it, byte for byte: escapes, numbers, order of keys, indentation.
//!
//! Reading order: [`ResultEncoder`] (what `/db/execute`, `/db/query` and `/db/request` answer, written row by row into
//! one buffer), its leaves `text`, `number`, `time` and `blob`, then [`to_json`] and [`ObjectWriter`] for the other
//! endpoints. Runs on whatever thread answers (HTTP workers); holds no locks, does no IO, never panics on stored data.
//!
//! Differences from the reference, by choice: an infinite REAL is the string `"Infinity"` or `"-Infinity"` (as in
//! protobuf's JSON mapping; it used to fail the whole request), text in a date column that is no date is sent as it is
//! stored, and an integer there whose year does not fit into four digits is sent as the integer.

mod blob;
mod columns;
mod indent;
mod number;
mod result;
mod text;
mod time;
mod value;

pub use indent::indent;
pub use number::{write_f64, write_i64, write_u64};
pub use result::{DEFAULT_RESULT_BYTES_MAX, EncodeOptions, ResponseTail, ResultEncoder, empty_response};
pub use text::write_string;
pub use value::{ObjectWriter, to_json};
