//! A call to the leader that does not wait for one that leads no more: a leader that is frozen, or cut off with its
//! connections open, would hold up whoever asked it for the whole of the time allowed, long after another was elected.
//!
//! The answers arrive on the network's threads, the looks are taken on the timer's.

use super::Coordinator;
use super::timer::TimerKey;
use crate::net::call::{Answer, CallAs};
use crate::net::{CallError, NetHandle};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at who leads while an answer is waited for: a small part of what an election takes, since it is added
/// to it for every client that waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

type Told = Box<dyn FnOnce(Result<Answer, CallError>) + Send>;

struct Asked {
    told: Option<Told>,
    look: Option<TimerKey>,
}

/// Asks the leader at `address`. `told` runs exactly once; with `CallError::Unknown` as soon as this node knows another
/// leader than the one that was asked.
pub(super) fn call_leader(
    coordinator: &Arc<Coordinator>,
    net: &NetHandle,
    address: &str,
    call: CallAs,
    timeout: Duration,
    told: Told,
) {
    let asked = Arc::new(Mutex::new(Asked { told: Some(told), look: None }));
    let (answered, timer) = (Arc::clone(&asked), coordinator.timer().clone());
    net.call(
        address,
        call,
        timeout,
        Box::new(move |answer| {
            let (told, look) = {
                let mut asked = answered.lock();
                (asked.told.take(), asked.look.take())
            };
            if let Some(look) = look {
                timer.cancel(look);
            }
            // None: it was given up before.
            if let Some(told) = told {
                told(answer);
            }
        }),
    );
    look_later(Arc::clone(coordinator), asked, address.to_owned());
}

fn look_later(coordinator: Arc<Coordinator>, asked: Arc<Mutex<Asked>>, address: String) {
    if asked.lock().told.is_none() {
        return;
    }
    let timer = coordinator.timer().clone();
    let later = Arc::clone(&asked);
    let key = timer.after(LOOK_INTERVAL, move || {
        let other_leads = coordinator.leader().is_some_and(|(_, leader)| leader != address);
        if !other_leads {
            return look_later(coordinator, later, address);
        }
        let told = later.lock().told.take();
        if let Some(told) = told {
            told(Err(CallError::Unknown(format!("{address} does not lead any more"))));
        }
    });
    let mut state = asked.lock();
    match state.told.is_some() {
        true => state.look = Some(key),
        false => {
            drop(state);
            timer.cancel(key);
        }
    }
}
