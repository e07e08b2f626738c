//! The paths of the API, as one table of data. Pure; any thread.

use super::front::Call;
use super::handlers::{
    admin, backup, boot, console, debug, execute, leader, licenses, load, nodes, query, readyz, remove, request, sql,
    status, verify,
};
use super::headers::{JSON, TEXT};
use super::reply::Reply;
use crate::auth::Permission;
use crate::vars::{self, Counter};

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Exact,
    /// Whatever begins so.
    Prefix,
}

/// One line of the table.
pub struct Route {
    pub path: &'static str,
    pub kind: Match,
    /// Empty: every method.
    pub methods: &'static [&'static str],
    /// Its caller needs all of them; empty: anyone may.
    pub permissions: &'static [Permission],
    /// The type that even a refused method carries.
    pub content_type: Option<&'static str>,
    /// Counts every request that gets this far.
    pub hits: Option<&'static Counter>,
    pub handle: fn(Call, Reply),
}

impl Route {
    pub fn allows(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.contains(&method)
    }

    fn matches(&self, path: &str) -> bool {
        match self.kind {
            Match::Exact => path == self.path,
            Match::Prefix => path.starts_with(self.path),
        }
    }
}

/// The first line that matches a decoded path.
pub fn find(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.matches(path))
}

/// May the body of a request to this path be a whole database?
pub fn takes_database(path: &str) -> bool {
    find(path).is_some_and(|route| route.permissions.contains(&Permission::Load))
}

const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
const GET_POST: &[&str] = &["GET", "POST"];
const GET_HEAD: &[&str] = &["GET", "HEAD"];
const DELETE: &[&str] = &["DELETE"];
const ANY: &[&str] = &[];

/// A line with the less common columns empty.
const fn route(
    path: &'static str,
    kind: Match,
    methods: &'static [&'static str],
    permissions: &'static [Permission],
    handle: fn(Call, Reply),
) -> Route {
    Route { path, kind, methods, permissions, content_type: None, hits: None, handle }
}

impl Route {
    const fn typed(self, content_type: &'static str) -> Route {
        Route { content_type: Some(content_type), ..self }
    }

    const fn counted(self, hits: &'static Counter) -> Route {
        Route { hits: Some(hits), ..self }
    }
}

use Match::{Exact, Prefix};
use Permission::{Backup, Execute, LeaderOps, Load, Query, Ready, Remove, Snapshot, Status, Ui};

/// Tested from top to bottom.
#[rustfmt::skip]
static ROUTES: [Route; 22] = [
    route("", Exact, ANY, &[], console::root),
    route("/", Exact, ANY, &[], console::root),
    route("/console", Exact, ANY, &[], console::without_slash),
    route("/console", Prefix, GET_HEAD, &[Ui], console::handle).counted(&vars::http::UI),
    route("/db/execute", Prefix, POST, &[Execute], execute::handle).typed(JSON).counted(&vars::http::EXECUTIONS),
    route("/db/query", Prefix, GET_POST, &[Query], query::handle).typed(JSON).counted(&vars::http::QUERIES),
    route("/db/request", Prefix, POST, &[Query, Execute], request::handle).typed(JSON).counted(&vars::http::REQUESTS),
    route("/db/backup", Prefix, GET, &[Backup], backup::handle).counted(&vars::http::BACKUPS),
    route("/db/load", Prefix, POST, &[Load], load::handle).counted(&vars::http::LOADS),
    route("/db/sql", Prefix, GET_POST, &[Query], sql::handle).typed(JSON).counted(&vars::http::SQL_ANALYZE),
    route("/boot", Exact, POST, &[Load], boot::handle).counted(&vars::http::BOOT),
    route("/snapshot", Exact, POST, &[Snapshot], admin::snapshot).counted(&vars::http::USER_SNAPSHOTS),
    route("/reap", Exact, POST, &[Snapshot], admin::reap).counted(&vars::http::USER_REAPS),
    route("/verify", Exact, POST, &[Snapshot], verify::handle).typed(JSON),
    route("/remove", Prefix, DELETE, &[Remove], remove::handle),
    route("/status", Prefix, GET, &[Status], status::handle).typed(JSON).counted(&vars::http::NUM_STATUS),
    route("/nodes", Prefix, GET, &[Status], nodes::handle).typed(JSON),
    route("/leader", Exact, GET_POST, &[LeaderOps], leader::handle).typed(JSON),
    route("/readyz", Prefix, GET, &[Ready], readyz::handle).counted(&vars::http::NUM_READYZ),
    route("/licenses", Exact, GET, &[Status], licenses::handle).typed(TEXT),
    route("/debug/vars", Exact, ANY, &[Status], debug::vars).typed(JSON),
    route("/debug/pprof", Prefix, ANY, &[Status], debug::pprof),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Operation;

    #[test]
    fn the_leader_looks_for_the_permissions_that_the_first_node_looked_for() {
        for (path, operation) in [
            ("/db/execute", Operation::Execute),
            ("/db/query", Operation::Query),
            ("/db/request", Operation::Request),
            ("/db/backup", Operation::Backup),
            ("/db/load", Operation::Load),
            ("/remove", Operation::RemoveNode),
            ("/leader", Operation::StepDown),
            ("/verify", Operation::Verify),
        ] {
            assert_eq!(find(path).expect("a path of the API").permissions, operation.permissions(), "{path}");
        }
    }
}
