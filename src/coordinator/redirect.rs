//! Where the leader's API is, for a client that wants to go there itself (`redirect`).

use super::{Coordinator, Error};
use crate::net::call::{Answer, Call};
use std::time::Duration;

impl Coordinator {
    /// Asks the leader for its URL. `done` gets what the client is told: `Error::Redirect`, or why it cannot be.
    pub(super) fn redirect(&self, timeout: Duration, done: Box<dyn FnOnce(Error) + Send>) {
        let (Some((_, address)), Some(net)) = (self.leader(), self.net()) else {
            return done(Error::RedirectUnknown);
        };
        let told = Box::new(move |answer| {
            done(match answer {
                Ok(Answer::Meta(meta)) if !meta.api_url.is_empty() => Error::Redirect { leader_url: meta.api_url },
                _ => Error::RedirectUnknown,
            });
        });
        net.call(&address, Call::Meta, timeout, told);
    }
}
