//! `GET /status`: what the node knows of itself, as one document with sorted keys; `key` chooses a part of it.
//!
//! Names and types are those that scripts of this API read. Sections that only a process of another language has are
//! filled with the nearest thing this one has.

use super::{interfaces, store_status};
use crate::config::build_info;
use crate::http::front::{Api, Call};
use crate::http::json::to_json;
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use crate::text::duration;
use crate::text::time::{Digits, rfc3339_local};
use crate::vars;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime};

/// Bound of a call between nodes when the client gives none.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(30);
/// The two kinds of connection that share the port between nodes.
const MUX_HANDLERS: &str = "\u{1}\u{2}";

pub fn handle(call: Call, reply: Reply) {
    let document = document(&call.api);
    let text = match call.params.key.as_deref().filter(|key| !key.is_empty()) {
        Some(key) => to_json(select(&document, key), false),
        None => to_json(&document, call.params.has(Flag::Pretty)),
    };
    reply.send(reply::json(text));
}

/// Follows a path of member names. A path that goes on behind a value which is no object ends at that value.
fn select<'a>(document: &'a Value, key: &str) -> &'a Value {
    static NOTHING: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Object(Map::new()));
    let mut value = document;
    for name in key.split('.') {
        let Value::Object(members) = value else { return value };
        match members.get(name) {
            Some(member) => value = member,
            None => return &NOTHING,
        }
    }
    value
}

fn document(api: &Api) -> Value {
    let mut document = json!({
        "build": build(),
        "http": http(api),
        "node": node(api),
        "os": os(),
        "runtime": runtime(),
    });
    let members = document.as_object_mut().expect("the document is an object");
    if let Some(time) = api.backend.last_backup() {
        members.insert("last_backup_time".to_owned(), json!(rfc3339_local(time, Digits::Nanos)));
    }
    match api.backend.store_status() {
        None => {
            members.insert("store".to_owned(), json!({"open": false}));
        }
        Some(status) => {
            members.insert("store".to_owned(), store_status::store(api, &status));
            members.insert("cluster".to_owned(), cluster(api));
            members.insert("extensions".to_owned(), extensions(api));
            members.insert("mux".to_owned(), mux(api));
            members.insert("network".to_owned(), json!({"interfaces": interfaces::interfaces()}));
        }
    }
    document
}

fn build() -> Value {
    json!({
        "build_time": build_info::BUILD_TIME,
        "commit": build_info::COMMIT,
        "compiler_command": build_info::COMPILER,
        "compiler_toolchain": build_info::TOOLCHAIN,
        "version": build_info::VERSION,
    })
}

fn http(api: &Api) -> Value {
    let (config, queue) = (&api.config, &api.config.queue);
    let mut http = json!({
        "auth": if api.access.is_on() { "enabled" } else { "disabled" },
        "bind_addr": config.http.addr,
        "cluster": {
            "local_node_addr": config.raft.adv_addr,
            "timeout": duration::format(CLUSTER_TIMEOUT),
        },
        "queue": {"_default": {
            "batch_size": queue.batch_size,
            "max_size": queue.capacity,
            "sequence_number": api.backend.queue_sequence(),
            "timeout": duration::format(queue.timeout.unwrap_or_default()),
        }},
        "tls": {"enabled": "false"},
    });
    if let Some(origin) = &config.http.allow_origin {
        http["allow_origin"] = json!(origin);
    }
    http
}

fn node(api: &Api) -> Value {
    json!({
        "current_time": rfc3339_local(SystemTime::now(), Digits::Nanos),
        "start_time": rfc3339_local(api.launch.started_at, Digits::Nanos),
        "uptime": duration::format(api.launch.started.elapsed()),
    })
}

fn os() -> Value {
    let mut os = json!({
        "page_size": vars::page_bytes(),
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
    });
    if let Ok(path) = std::env::current_exe() {
        os["executable"] = json!(path.to_string_lossy());
    }
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        os["hostname"] = json!(name.trim_end());
    }
    os
}

fn runtime() -> Value {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    json!({
        "GOARCH": build_info::arch(),
        "GOMAXPROCS": cpus,
        "GOOS": build_info::os(),
        "kubernetes_hint": std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        "num_cpu": cpus,
        "num_goroutine": threads,
        "version": build_info::TOOLCHAIN,
    })
}

fn cluster(api: &Api) -> Value {
    json!({
        "addr": api.config.raft.adv_addr,
        "api_addr": api.config.http.adv_addr,
        "https": "false",
    })
}

fn extensions(api: &Api) -> Value {
    json!({"dir": api.config.data_dir.join("extensions").to_string_lossy(), "names": []})
}

fn mux(api: &Api) -> Value {
    json!({
        "addr": api.config.raft.addr,
        "handlers": MUX_HANDLERS,
        "timeout": duration::format(CLUSTER_TIMEOUT),
        "tls": "disabled",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_chooses_a_part() {
        let document: Value =
            serde_json::from_str(r#"{"a":{"b":{"c":1690000000000154139,"d":"x"},"e":[1]},"f":true}"#).expect("valid");
        for (key, expected) in [
            ("a.b.c", "1690000000000154139"),
            ("a.b.d", "\"x\""),
            ("a.b.d.more", "\"x\""),
            ("a.e.0", "[1]"),
            ("f", "true"),
            ("a.b", "{\"c\":1690000000000154139,\"d\":\"x\"}"),
            ("no.such", "{}"),
            ("a.nothing", "{}"),
            ("a.", "{}"),
        ] {
            assert_eq!(to_json(select(&document, key), false), expected, "{key}");
        }
    }
}
