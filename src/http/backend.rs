//! What the API asks of the node. The coordinator answers it in the server, a fake in tests.
//!
//! Continuations run exactly once, on any thread, and must neither block nor encode: handlers pass the work on to a
//! worker with [`super::reply::Reply::send_with`].

use crate::auth::{Callers, Credentials};
use crate::command::{Request, ResultSink, Statement};
use crate::coordinator::peers::{LeaderDone, NodeDone, NodesDone};
use crate::coordinator::{
    AdminDone, AdminOptions, BackupDone, BackupRequest, BootStart, Coordinator, Error, LoadDone, LoadRequest,
    LoadSource, PermitDone, QueueDone, ReadOptions, ReadPermit, StoreStatus, VerifyDone, WriteDone,
};
use raft::Index;
use std::time::{Duration, SystemTime};

/// See [`Coordinator`], whose functions of the same names these are.
pub trait Backend: Send + Sync + 'static {
    fn execute(&self, request: Request, options: &ReadOptions, done: WriteDone);
    fn request(&self, request: Request, options: &ReadOptions, done: WriteDone);
    fn load_text(&self, request: Request, options: &ReadOptions, done: WriteDone);
    fn load_file(&self, request: LoadRequest, done: LoadDone);
    fn boot(&self, source: LoadSource, callers: Callers) -> BootStart;
    fn only_reads(&self, request: &Request) -> Result<bool, Error>;
    fn permit_read(&self, options: &ReadOptions, done: PermitDone);
    fn read(
        &self,
        permit: &ReadPermit,
        request: &Request,
        options: &ReadOptions,
        sink: &mut dyn ResultSink,
    ) -> Result<(), Error>;
    fn enqueue(&self, caller: Credentials, statements: Vec<Statement>, wait: bool, timeout: Duration, done: QueueDone);
    fn verify(&self, caller: Credentials, timeout: Duration, done: VerifyDone);
    fn queue_sequence(&self) -> u64;
    fn snapshot(&self, trailing_logs: u64) -> Result<bool, Error>;
    fn store_status(&self) -> Option<StoreStatus>;
    fn leader(&self) -> Option<(String, String)>;
    fn nodes(&self, nonvoters: bool, timeout: Duration, done: NodesDone);
    fn leader_report(&self, timeout: Duration, done: NodeDone);
    fn leader_commit(&self, timeout: Duration, done: LeaderDone);
    fn step_down(&self, target: Option<&str>, wait: bool, options: &AdminOptions, done: AdminDone);
    fn remove_node(&self, id: &str, options: &AdminOptions, done: AdminDone);
    fn wait_synced(&self, index: Index, timeout: Duration, done: Box<dyn FnOnce(Result<(), Error>) + Send>);
    fn is_ready(&self) -> bool;
    fn backup(&self, request: BackupRequest, done: BackupDone);
    fn backup_sent(&self);
    fn last_backup(&self) -> Option<SystemTime>;
}

impl Backend for Coordinator {
    fn execute(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.execute(request, options, done)
    }

    fn request(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.request(request, options, done)
    }

    fn load_text(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.load_text(request, options, done)
    }

    fn load_file(&self, request: LoadRequest, done: LoadDone) {
        self.load_file(request, done)
    }

    fn boot(&self, source: LoadSource, callers: Callers) -> BootStart {
        self.boot(source, callers)
    }

    fn only_reads(&self, request: &Request) -> Result<bool, Error> {
        self.only_reads(request)
    }

    fn permit_read(&self, options: &ReadOptions, done: PermitDone) {
        self.permit_read(options, done)
    }

    fn read(
        &self,
        permit: &ReadPermit,
        request: &Request,
        options: &ReadOptions,
        sink: &mut dyn ResultSink,
    ) -> Result<(), Error> {
        self.read(permit, request, options, sink)
    }

    fn enqueue(&self, caller: Credentials, statements: Vec<Statement>, wait: bool, timeout: Duration, done: QueueDone) {
        self.enqueue(caller, statements, wait, timeout, done)
    }

    fn verify(&self, caller: Credentials, timeout: Duration, done: VerifyDone) {
        self.verify(caller, timeout, done)
    }

    fn queue_sequence(&self) -> u64 {
        self.queue_sequence()
    }

    fn snapshot(&self, trailing_logs: u64) -> Result<bool, Error> {
        self.snapshot(trailing_logs)
    }

    fn store_status(&self) -> Option<StoreStatus> {
        self.store_status()
    }

    fn leader(&self) -> Option<(String, String)> {
        self.leader()
    }

    fn nodes(&self, nonvoters: bool, timeout: Duration, done: NodesDone) {
        self.nodes(nonvoters, timeout, done)
    }

    fn leader_report(&self, timeout: Duration, done: NodeDone) {
        self.leader_report(timeout, done)
    }

    fn leader_commit(&self, timeout: Duration, done: LeaderDone) {
        self.leader_commit(timeout, done)
    }

    fn step_down(&self, target: Option<&str>, wait: bool, options: &AdminOptions, done: AdminDone) {
        self.step_down(target, wait, options, done)
    }

    fn remove_node(&self, id: &str, options: &AdminOptions, done: AdminDone) {
        self.remove_node(id, options, done)
    }

    fn wait_synced(&self, index: Index, timeout: Duration, done: Box<dyn FnOnce(Result<(), Error>) + Send>) {
        self.wait_synced(index, timeout, done)
    }

    fn is_ready(&self) -> bool {
        self.is_ready()
    }

    fn backup(&self, request: BackupRequest, done: BackupDone) {
        self.backup(request, done)
    }

    fn backup_sent(&self) {
        self.backup_sent()
    }

    fn last_backup(&self) -> Option<SystemTime> {
        self.last_backup()
    }
}
