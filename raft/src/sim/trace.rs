//! What happened, as a hash and, when somebody wants to read it, as text.

use super::random::{mix, mix_bytes};
use crate::{Envelope, Message};
use std::io::Write;

/// The hash covers every delivered message, every start and every fault, with their times.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    print: bool,
}

impl Trace {
    pub(super) fn new(print: bool) -> Trace {
        Trace { hash: 0, print }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn packet(&mut self, now_us: u64, from: usize, to: usize, bytes: &[u8]) {
        self.hash = mix_bytes(mix(self.hash, now_us), bytes);
        if self.print {
            let text = crate::wire::decode(bytes).map_or_else(|e| e.to_string(), |e| describe(&e));
            say(&format!("{now_us:>10} n{from} > n{to}  {text}"));
        }
    }

    pub(super) fn note(&mut self, now_us: u64, what: impl FnOnce() -> String) {
        let text = what();
        self.hash = mix_bytes(mix(self.hash, now_us), text.as_bytes());
        if self.print {
            say(&format!("{now_us:>10} {text}"));
        }
    }
}

/// To standard output, for who asked for it; whether anybody reads it does not matter.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn describe(envelope: &Envelope) -> String {
    let what = match &envelope.message {
        Message::PreVote { last, .. } => format!("last {last}"),
        Message::PreVoteReply { granted, .. } | Message::VoteReply { granted, .. } => {
            (if *granted { "granted" } else { "refused" }).into()
        }
        Message::Vote { last, transfer, .. } => format!("last {last}{}", if *transfer { " transfer" } else { "" }),
        Message::Append { prev, entries, commit, .. } => {
            let last = entries.last().map_or(*prev, |e| e.id);
            format!("after {prev} to {last} commit {commit}")
        }
        Message::AppendReply { matched, .. } => format!("matched {matched}"),
        Message::AppendReject { prev, hint, .. } => format!("no {prev}, hint {hint}"),
        Message::Heartbeat { round, matched, commit, .. } => format!("round {round} matched {matched} commit {commit}"),
        Message::HeartbeatReply { round, accepted, matched, .. } => {
            format!("round {round} accepted {accepted} matched {matched}")
        }
        Message::TimeoutNow { .. } => String::new(),
    };
    format!("{} term {} {what}", envelope.message.name(), envelope.message.term())
}
