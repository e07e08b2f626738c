//! A node that is not there: it answers by what the SQL says, and notes what it was asked.

use ferrolite::auth::{AccessControl, Callers, Credentials, Operation};
use ferrolite::command::{Column, Request, ResultSink, Statement, StatementResult, ValueRef};
use ferrolite::config::{Config, Launch};
use ferrolite::coordinator::peers::{LeaderDone, NodeDone, NodeReport, NodesDone};
use ferrolite::coordinator::status::{Member, RaftStatus, StoreStatus};
use ferrolite::coordinator::{
    AdminDone, AdminOptions, BackupDone, BackupRequest, BackupStream, BootStart, Error, Level, LoadDone, LoadRequest,
    LoadSource, PermitDone, QueueDone, ReadOptions, ReadPermit, VerifyDone, WriteDone, Written,
};
use ferrolite::db::DbStatus;
use ferrolite::http::Front;
use ferrolite::http::backend::Backend;
use ferrolite::http::engine::{self, Body, Handler, Headers, Responder, Response, ResponseBody};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

type Held = Box<dyn FnOnce() + Send>;

/// What a client would see.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    fn from(response: Response) -> Answer {
        let body = match response.body {
            ResponseBody::Empty => String::new(),
            ResponseBody::Bytes(bytes) => String::from_utf8(bytes).expect("UTF-8"),
            ResponseBody::Stream(stream) => {
                let mut bytes = Vec::new();
                // What an engine does with an error: it cuts the connection.
                if stream(&mut bytes).is_err() {
                    bytes.extend_from_slice(b"<cut>");
                }
                String::from_utf8(bytes).expect("UTF-8")
            }
        };
        Answer { status: response.status, headers: response.headers, body }
    }
}

/// The front with a fake behind it.
pub struct Node {
    pub front: Front,
    pub backend: Arc<Fake>,
}

impl Node {
    /// Starts with flags of the command line; everybody may do everything.
    pub fn start(flags: &[&str]) -> Node {
        Node::start_for(AccessControl::off(), flags)
    }

    /// The same for those whom `access` permits it.
    pub fn start_for(access: AccessControl, flags: &[&str]) -> Node {
        let words: Vec<&str> = flags.iter().copied().chain(["/data"]).collect();
        let config = Arc::new(Config::from_words(&words).expect("valid flags"));
        let launch = Launch::new("ferrolite", &["ferrolite".to_owned(), "serve".to_owned()], "3");
        let backend = Arc::new(Fake::new(&config));
        Node { front: Front::new(backend.clone(), config, launch, Arc::new(access)), backend }
    }

    pub fn call(&self, method: &str, target: &str, body: &str) -> Answer {
        self.call_with(method, target, &[], body.as_bytes())
    }

    pub fn call_with(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = self.begin(method, target, headers, body).recv_timeout(Duration::from_secs(5));
        answer.unwrap_or_else(|_| panic!("{method} {target} was not answered"))
    }

    /// Hands a request to the front; its answer arrives in the channel.
    pub fn begin(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> crossbeam_channel::Receiver<Answer> {
        self.backend.log().clear();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = engine::Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Headers(headers.iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect()),
            body: Body::Memory(body.to_vec()),
            peer: ([127, 0, 0, 1], 1).into(),
        };
        let (answer_tx, answer_rx) = crossbeam_channel::bounded(1);
        let take = move |response| answer_tx.send(Answer::from(response)).expect("the test waits");
        self.front.handle(request, Responder::to_function(take));
        answer_rx
    }
}

pub struct Fake {
    node_id: String,
    calls: Mutex<Vec<&'static str>>,
    last: Mutex<(Request, ReadOptions)>,
    /// Who asked last, where that is not part of the options.
    last_caller: Mutex<Credentials>,
    holds: AtomicBool,
    held: Mutex<Vec<Held>>,
    has_leader: AtomicBool,
    is_ready: AtomicBool,
    is_open: AtomicBool,
    has_news: AtomicBool,
    backups_break_off: AtomicBool,
    last_backup: Mutex<Option<SystemTime>>,
}

impl Fake {
    fn new(config: &Config) -> Fake {
        Fake {
            node_id: config.node_id.clone(),
            calls: Mutex::default(),
            last: Mutex::default(),
            last_caller: Mutex::default(),
            holds: AtomicBool::new(false),
            held: Mutex::default(),
            has_leader: AtomicBool::new(true),
            is_ready: AtomicBool::new(true),
            is_open: AtomicBool::new(true),
            has_news: AtomicBool::new(true),
            backups_break_off: AtomicBool::new(false),
            last_backup: Mutex::default(),
        }
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Vec<&'static str>> {
        self.calls.lock().expect("no test panicked")
    }

    fn note(&self, call: &'static str, request: Option<&Request>, options: Option<&ReadOptions>) {
        self.log().push(call);
        let mut last = self.last.lock().expect("no test panicked");
        if let Some(request) = request {
            last.0 = request.clone();
        }
        if let Some(options) = options {
            last.1 = options.clone();
        }
    }

    /// What the last request to the front made it ask.
    pub fn calls(&self) -> Vec<&'static str> {
        self.log().clone()
    }

    pub fn last_request(&self) -> Request {
        self.last.lock().expect("no test panicked").0.clone()
    }

    pub fn last_options(&self) -> ReadOptions {
        self.last.lock().expect("no test panicked").1.clone()
    }

    pub fn last_caller(&self) -> Credentials {
        self.last_caller.lock().expect("no test panicked").clone()
    }

    pub fn hold_writes(&self) {
        self.holds.store(true, Ordering::SeqCst);
    }

    pub fn take_held(&self) -> Held {
        self.held.lock().expect("no test panicked").pop().expect("a write is held")
    }

    pub fn held_len(&self) -> usize {
        self.held.lock().expect("no test panicked").len()
    }

    pub fn lose_leader(&self) {
        self.has_leader.store(false, Ordering::SeqCst);
    }

    pub fn break_off_backups(&self, on: bool) {
        self.backups_break_off.store(on, Ordering::SeqCst);
    }

    pub fn fall_behind(&self) {
        self.is_ready.store(false, Ordering::SeqCst);
    }

    pub fn close_store(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        self.lose_leader();
    }

    /// SQL such as `error stale` asks for an error.
    fn error(request: &Request) -> Option<Error> {
        match request.statements.first()?.sql.strip_prefix("error")?.trim() {
            "stale" => Some(Error::StaleRead),
            "leader" => Some(Error::LeaderNotFound),
            "unauthorized" => Some(Error::Unauthorized(Operation::Execute)),
            "redirect" => Some(Error::Redirect { leader_url: "https://other:4001".to_owned() }),
            other => panic!("no such error: {other}"),
        }
    }

    fn report(&self) -> NodeReport {
        NodeReport {
            id: self.node_id.clone(),
            api_addr: "http://localhost:4001".to_owned(),
            addr: "localhost:4002".to_owned(),
            version: "v10".to_owned(),
            voter: true,
            reachable: true,
            leader: self.leader().is_some(),
            time: Duration::from_millis(1),
            error: String::new(),
        }
    }

    fn write(&self, request: &Request, done: WriteDone) {
        let outcome = match Fake::error(request) {
            Some(error) => Err(error),
            None => {
                let result = StatementResult::Write { last_insert_id: 7, rows_affected: 1, time: 0.5 };
                let results = vec![result; request.statements.len()];
                Ok(Written { results, raft_index: raft::Index(42), served_by: None })
            }
        };
        if self.holds.load(Ordering::SeqCst) {
            self.held.lock().expect("no test panicked").push(Box::new(move || done(outcome)));
        } else {
            done(outcome);
        }
    }
}

fn in_memory(source: LoadSource) -> Vec<u8> {
    match source {
        LoadSource::Memory(bytes) => bytes,
        LoadSource::File { .. } => panic!("it lies in memory"),
    }
}

impl Backend for Fake {
    fn execute(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.note("execute", Some(&request), Some(options));
        self.write(&request, done);
    }

    fn request(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.note("request", Some(&request), Some(options));
        self.write(&request, done);
    }

    fn load_text(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.note("load_text", Some(&request), Some(options));
        self.write(&request, done);
    }

    /// A file that ends with `bad` is none that could be loaded.
    fn load_file(&self, request: LoadRequest, done: LoadDone) {
        self.note("load_file", None, None);
        if !self.has_leader.load(Ordering::SeqCst) {
            return done(Err(Error::LeaderNotFound));
        }
        if request.redirect {
            return done(Err(Error::Redirect { leader_url: "http://leader:4001".to_owned() }));
        }
        done(Ok(Box::new(move || {
            let bytes = in_memory(request.source);
            if bytes.ends_with(b"bad") {
                return Err(Error::UnfitDatabase("no room".to_owned()));
            }
            Ok(Written { results: Vec::new(), raft_index: raft::Index(42), served_by: Some("leader:4002".to_owned()) })
        })));
    }

    fn boot(&self, source: LoadSource, _callers: Callers) -> BootStart {
        self.note("boot", None, None);
        let has_leader = self.has_leader.load(Ordering::SeqCst);
        Box::new(move || {
            let bytes = in_memory(source);
            match bytes.ends_with(b"bad") {
                _ if !has_leader => Err(Error::NotLeader),
                true => Err(Error::UnfitDatabase("no room".to_owned())),
                false => Ok(()),
            }
        })
    }

    fn only_reads(&self, request: &Request) -> Result<bool, Error> {
        self.note("only_reads", None, None);
        Ok(request.statements.iter().all(|statement| !statement.sql.starts_with("INSERT")))
    }

    fn permit_read(&self, options: &ReadOptions, done: PermitDone) {
        self.note("permit_read", None, Some(options));
        let raft_index = (options.level == Level::Strong).then_some(raft::Index(43));
        done(Ok(ReadPermit { raft_index, served_by: None }));
    }

    fn read(
        &self,
        _permit: &ReadPermit,
        request: &Request,
        _options: &ReadOptions,
        sink: &mut dyn ResultSink,
    ) -> Result<(), Error> {
        self.note("read", Some(request), None);
        if let Some(error) = Fake::error(request) {
            return Err(error);
        }
        for _ in &request.statements {
            sink.begin_rows(&[Column { name: "a".to_owned(), decl_type: "integer".to_owned() }]);
            sink.row(&[ValueRef::Integer(1)]).expect("there is room");
            sink.end_rows(0.25);
        }
        Ok(())
    }

    fn enqueue(&self, caller: Credentials, statements: Vec<Statement>, wait: bool, timeout: Duration, done: QueueDone) {
        self.note("enqueue", None, None);
        *self.last_caller.lock().expect("no test panicked") = caller;
        let fails = statements.iter().any(|statement| statement.sql == "error");
        if fails && wait && timeout < Duration::from_secs(1) {
            return done(Err(Error::QueueWaitTimeout));
        }
        done(Ok(1001));
    }

    fn verify(&self, caller: Credentials, _timeout: Duration, done: VerifyDone) {
        self.note("verify", None, None);
        *self.last_caller.lock().expect("no test panicked") = caller;
        done(self.leader().map(|_| "{\"equal\":true}".to_owned()).ok_or(Error::LeaderNotFound));
    }

    fn queue_sequence(&self) -> u64 {
        1_790_000_000_000_154_139
    }

    fn snapshot(&self, _trailing_logs: u64) -> Result<bool, Error> {
        Ok(self.has_news.swap(false, Ordering::SeqCst))
    }

    fn store_status(&self) -> Option<StoreStatus> {
        if !self.is_open.load(Ordering::SeqCst) {
            return None;
        }
        let member =
            Member { id: self.node_id.clone(), addr: "localhost:4002".to_owned(), voter: true, ..Member::default() };
        Some(StoreStatus {
            dir: "/data".into(),
            dir_bytes: 1_200_000,
            ready: true,
            quarantine: None,
            leader: self.leader(),
            members: vec![member],
            fsm_index: 3,
            fsm_term: 1,
            fsm_update_time_us: 1_700_000_000_000_000,
            db_applied_index: 3,
            strong_read_term: 0,
            leader_appended_at_us: 0,
            last_vacuum_us: 0,
            created_us: 1_700_000_000_000_000,
            raft: RaftStatus {
                state: "Leader",
                voter: true,
                term: 1,
                last_log_index: 3,
                last_log_term: 1,
                commit_index: 3,
                applied_index: 3,
                fsm_pending: 0,
                last_snapshot_index: 0,
                last_snapshot_term: 0,
                configuration_index: 1,
                num_peers: 0,
                log_bytes: 4096,
                last_contact_ms: None,
            },
            db: DbStatus::default(),
        })
    }

    fn leader(&self) -> Option<(String, String)> {
        let has_leader = self.has_leader.load(Ordering::SeqCst);
        has_leader.then(|| (self.node_id.clone(), "localhost:4002".to_owned()))
    }

    fn nodes(&self, nonvoters: bool, _timeout: Duration, done: NodesDone) {
        if !self.is_open.load(Ordering::SeqCst) {
            return done(Err(Error::StoreNotOpen));
        }
        let mut reports = vec![self.report()];
        if nonvoters {
            let error = "timeout waiting for node to respond".to_owned();
            let (id, addr) = ("reader".to_owned(), "h:1".to_owned());
            reports.push(NodeReport { id, addr, error, ..NodeReport::default() });
        }
        done(Ok(reports));
    }

    fn leader_report(&self, _timeout: Duration, done: NodeDone) {
        done(self.leader().map(|_| self.report()).ok_or(Error::LeaderNotFound));
    }

    fn leader_commit(&self, timeout: Duration, done: LeaderDone) {
        done(match self.leader() {
            // A time so short stands for a leader that does not answer.
            Some(_) if timeout.is_zero() => Err(Error::Request("connection refused".to_owned())),
            Some(_) => Ok(raft::Index(3)),
            None => Err(Error::LeaderNotFound),
        });
    }

    fn step_down(&self, target: Option<&str>, wait: bool, options: &AdminOptions, done: AdminDone) {
        self.note("step_down", None, None);
        *self.last_caller.lock().expect("no test panicked") = options.caller.clone();
        done(match target {
            Some("refusing") => Err(Error::Unauthorized(Operation::StepDown)),
            Some(id) if id == self.node_id => Err(Error::AlreadyLeader),
            Some("elsewhere") if options.redirect => {
                Err(Error::Redirect { leader_url: "http://other:4001".to_owned() })
            }
            Some("elsewhere") => Ok(Some("other:4002".to_owned())),
            Some(_) => Err(Error::NodeNotFound),
            None if wait => Err(Error::NotEnoughNodes),
            None => Ok(None),
        });
    }

    fn remove_node(&self, id: &str, options: &AdminOptions, done: AdminDone) {
        self.note("remove_node", None, None);
        *self.last_caller.lock().expect("no test panicked") = options.caller.clone();
        done(match id {
            "refusing" => Err(Error::Unauthorized(Operation::RemoveNode)),
            "elsewhere" if options.redirect => Err(Error::Redirect { leader_url: "http://other:4001".to_owned() }),
            "elsewhere" => Ok(Some("other:4002".to_owned())),
            "last" => Err(Error::Request("need at least one voter in configuration: {[]}".to_owned())),
            _ => Ok(None),
        });
    }

    fn wait_synced(&self, index: raft::Index, timeout: Duration, done: Box<dyn FnOnce(Result<(), Error>) + Send>) {
        let late = timeout < Duration::from_secs(1);
        done(if late { Err(Error::FsmTimeout { index: index.0 }) } else { Ok(()) });
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }

    fn backup(&self, request: BackupRequest, done: BackupDone) {
        self.note("backup", None, None);
        *self.last_caller.lock().expect("no test panicked") = request.caller.clone();
        if !self.is_open.load(Ordering::SeqCst) {
            return done(Err(Error::StoreNotOpen));
        }
        if !self.has_leader.load(Ordering::SeqCst) && !request.no_leader {
            return done(Err(Error::LeaderNotFound));
        }
        if request.redirect {
            return done(Err(Error::Redirect { leader_url: "http://leader:4001".to_owned() }));
        }
        let breaks_off = self.backups_break_off.load(Ordering::SeqCst);
        done(Ok(Box::new(move || {
            let stream: BackupStream = Box::new(move |out| {
                write!(out, "{:?}", request.wish)?;
                if breaks_off { Err(std::io::Error::other("the disk is gone")) } else { Ok(()) }
            });
            Ok(stream)
        })));
    }

    fn backup_sent(&self) {
        *self.last_backup.lock().expect("no panic") = Some(SystemTime::UNIX_EPOCH);
    }

    fn last_backup(&self) -> Option<SystemTime> {
        *self.last_backup.lock().expect("no panic")
    }
}
