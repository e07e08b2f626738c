//! Bounded memory: what a replica holds stays within its limits, whatever its peers and its disk do.

use super::violated;
use crate::Replica;

/// Entries of one turn and of one message may pass a limit before it is looked at.
const SLACK_BYTES: u64 = 16 * 1024;

/// Reads, held messages and peers are bounded elsewhere by numbers; this is the part that grows with the load.
pub(in crate::sim) fn check(replica: &Replica) {
    let limits = &replica.config.limits;
    let bytes_max = limits.tail_bytes_max.max(limits.in_flight_bytes_max * 2)
        + limits.uncommitted_bytes_max
        + limits.batch_bytes_max
        + SLACK_BYTES;
    let bytes = replica.log.bytes_in_memory();
    if bytes > bytes_max {
        violated("bounded memory", format!("{} holds {bytes} bytes of log, limit {bytes_max}", replica.id()));
    }
}
