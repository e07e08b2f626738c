//! `/db/sql`: says whether statements parse, and shows them with calls of random and time replaced by values. Nothing
//! runs, and what statements name need not exist.

use super::json_statements;
use super::nodes::finish;
use crate::coordinator::SyntaxChecker;
use crate::http::front::Call;
use crate::http::json::ObjectWriter;
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use crate::http::rewrite::{self, Values};
use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// The Unix epoch as a Julian day number.
const UNIX_EPOCH_JULIAN_DAY: f64 = 2_440_587.5;
const DAY_S: f64 = 86_400.0;

pub fn handle(mut call: Call, reply: Reply) {
    let texts = if call.request.method == "GET" {
        match call.params.q.take() {
            Some(sql) => vec![sql],
            None => return reply.send(reply::text_error(400, "query not specified")),
        }
    } else {
        match json_statements(&mut call) {
            Ok(statements) => statements.into_iter().map(|statement| statement.sql).collect(),
            Err(answer) => return reply.send(answer),
        }
    };
    let Some(checker) = SyntaxChecker::new() else {
        return reply.send(reply::text_error(500, "out of memory"));
    };
    let mut out = Vec::new();
    let mut object = ObjectWriter::new(&mut out);
    object.with("results", |out| {
        out.push(b'[');
        for (n, sql) in texts.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            analyse(&call, &checker, sql, out);
        }
        out.push(b']');
    });
    if let Some(time) = call.time() {
        object.f64("time", time);
    }
    object.end();
    reply.send(reply::json(finish(&call, out)));
}

fn analyse(call: &Call, checker: &SyntaxChecker, sql: &str, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("original", sql);
    match checker.check(sql) {
        Ok(()) => object.string("rewritten", &rewrite(call, sql)),
        Err(error) => object.string("error", &error.to_string()),
    }
    object.end();
}

fn rewrite(call: &Call, sql: &str) -> String {
    // Values for people to look at: the keys of a hash map are random enough.
    let mut random = || RandomState::new().hash_one(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let julian_day = UNIX_EPOCH_JULIAN_DAY + since_epoch.as_secs_f64() / DAY_S;
    let (keep_random, keep_time) = (call.params.has(Flag::NoRewriteRandom), call.params.has(Flag::NoRewriteTime));
    rewrite::render(
        sql,
        Values {
            random: if keep_random { None } else { Some(&mut random) },
            julian_day: if keep_time { None } else { Some(julian_day) },
        },
    )
}
