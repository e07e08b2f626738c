//! Database files that clients send: arbitrary and damaged ones never panic, and what is taken can be read to its end.
#![no_main]

use ferrolite::db::load::{Source, Upload};
use ferrolite::db::sqlite::{Access, Connection};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fuzz_target!(|bytes: &[u8]| {
    check(bytes.to_vec());
    // Three bytes are one edit of a whole file: where, and what stands there then.
    let mut file = whole().clone();
    for edit in bytes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % file.len();
        file[at] = edit[2];
    }
    check(file);
});

fn check(bytes: Vec<u8>) {
    let size = bytes.len() as u64;
    let Ok(mut upload) = Upload::check(Source::Memory(bytes)) else { return };
    let mut given = 0;
    while let Some(chunk) = upload.next_chunk().expect("it lies in memory") {
        given += chunk.len() as u64;
    }
    assert_eq!((given, upload.bytes()), (size, size));
}

/// A small database with one of each.
fn whole() -> &'static Vec<u8> {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("ferrolite-fuzz-{}", std::process::id()));
        let connection = Connection::open(&path, Access::ReadWrite, None).expect("a file can be made");
        let sql = "PRAGMA page_size = 512; CREATE TABLE t(a PRIMARY KEY, b CHECK(b > 0)) WITHOUT ROWID;
                   CREATE TABLE u(id INTEGER PRIMARY KEY AUTOINCREMENT, x AS (id + 1)); CREATE INDEX i ON u(x);
                   CREATE VIEW v AS SELECT a FROM t; CREATE TRIGGER r AFTER INSERT ON u BEGIN DELETE FROM t; END;
                   CREATE VIRTUAL TABLE f USING fts5(y); INSERT INTO f VALUES('quick fox');
                   INSERT INTO u DEFAULT VALUES; INSERT INTO t VALUES('k', 1), (x'00', 2); ANALYZE";
        connection.execute(sql).expect("SQL");
        drop(connection);
        let bytes = std::fs::read(&path).expect("it is there");
        let _ = std::fs::remove_file(&path);
        bytes
    })
}
