//! From what the node says to the answers of `/db/execute`, `/db/query` and `/db/request`. Runs on workers, since
//! encoding is work and reading blocks.

use super::engine::Response;
use super::errors;
use super::front::Call;
use super::headers;
use super::json::{EncodeOptions, ResponseTail, ResultEncoder};
use super::params::Flag;
use super::reply;
use crate::command::Request;
use crate::coordinator::{Error, ReadOptions, ReadPermit, Written};

/// The answer to a request that went through the log.
pub fn written(call: &Call, outcome: Result<Written, Error>) -> Response {
    match outcome {
        Ok(written) => {
            let mut encoder = encoder(call);
            for result in &written.results {
                encoder.push(result);
            }
            success(call, encoder, written.raft_index.0, written.served_by.as_deref())
        }
        Err(error) => errors::data_endpoint(call, &error),
    }
}

/// Reads this node's copy, now that it may, and answers; blocks within the limits of the read.
pub fn read(call: &Call, permit: Result<ReadPermit, Error>, request: &Request, options: &ReadOptions) -> Response {
    let mut encoder = encoder(call);
    let read = permit.and_then(|permit| {
        call.api.backend.read(&permit, request, options, &mut encoder)?;
        Ok(permit)
    });
    match read {
        Ok(permit) => {
            let raft_index = permit.raft_index.map_or(0, |index| index.0);
            success(call, encoder, raft_index, permit.served_by.as_deref())
        }
        Err(error) => errors::data_endpoint(call, &error),
    }
}

fn encoder(call: &Call) -> ResultEncoder {
    let params = &call.params;
    ResultEncoder::new(EncodeOptions {
        associative: params.has(Flag::Associative),
        timings: params.has(Flag::Timings),
        blob_array: params.has(Flag::BlobArray),
        pretty: params.has(Flag::Pretty),
        bytes_max: usize::try_from(call.api.config.db.result_bytes_max).unwrap_or(usize::MAX),
    })
}

/// `served_by`: the leader, where it was asked.
fn success(call: &Call, encoder: ResultEncoder, raft_index: u64, served_by: Option<&str>) -> Response {
    let raft_index = if call.params.has(Flag::RaftIndex) { raft_index } else { 0 };
    let tail = ResponseTail { time: call.time(), raft_index, ..ResponseTail::default() };
    let served_by = served_by.unwrap_or(&call.api.config.http.adv_addr);
    reply::with(reply::json(encoder.finish(&tail)), headers::SERVED_BY, served_by)
}
