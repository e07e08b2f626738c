//! A plain closed-loop load on one node, with the time of every request. One thread per connection.

use crate::client::{Outcome, classify};
use crate::http::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One request of the load.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Since the load was started, microseconds.
    pub began_us: u64,
    pub took_us: u64,
    pub ok: bool,
}

/// See the module.
pub struct Load {
    stop: Arc<AtomicBool>,
    began: Instant,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Load {
    pub fn start(port: u16, connections: usize, path: &str, body: &str, think: Duration) -> Load {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let threads = (0..connections)
            .map(|_| {
                let (stop, path, body) = (Arc::clone(&stop), path.to_owned(), body.to_owned());
                std::thread::spawn(move || {
                    let mut client = Client::new(port).with_timeout(Duration::from_secs(30));
                    let mut samples = Vec::new();
                    while !stop.load(Relaxed) {
                        let sent = Instant::now();
                        let ok = classify(client.post(&path, &body)).0 == Outcome::Ok;
                        let began_us = (sent - began).as_micros() as u64;
                        samples.push(Sample { began_us, took_us: sent.elapsed().as_micros() as u64, ok });
                        std::thread::sleep(think);
                    }
                    samples
                })
            })
            .collect();
        Load { stop, began, threads }
    }

    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// All requests, by when they were sent.
    pub fn finish(self) -> Vec<Sample> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().expect("a client does not panic"));
        }
        all.sort_by_key(|sample| sample.began_us);
        all
    }
}
