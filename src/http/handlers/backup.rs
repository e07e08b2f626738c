//! `GET /db/backup`: the database as a file or as SQL, streamed.
//!
//! Until the snapshot is taken an error is an answer; from then on it cuts the connection, so that a part is never taken for
//! the whole.

use crate::coordinator::BackupRequest;
use crate::db::backup::{Format, Wish};
use crate::http::engine::{Response, ResponseBody};
use crate::http::front::Call;
use crate::http::params::{Flag, Params};
use crate::http::reply::{self, Reply};
use crate::http::{errors, headers};

pub fn handle(call: Call, reply: Reply) {
    let Some(wish) = wish(&call.params) else {
        return reply.send(reply::text_error(500, "invalid backup format"));
    };
    let content_type = content_type(&wish.format);
    let request = BackupRequest {
        wish,
        no_leader: call.params.has(Flag::NoLeader),
        redirect: call.params.has(Flag::Redirect),
        timeout: call.params.timeout,
        caller: call.caller.clone(),
    };
    let backend = call.api.backend.clone();
    let done = Box::new(move |start: Result<crate::coordinator::BackupStart, _>| {
        // The snapshot, and a vacuumed file even more, take a while: a worker's work.
        reply.send_with(move || match start.and_then(|start| start()) {
            Ok(stream) => {
                let backend = call.api.backend.clone();
                let mut answer = reply::with(reply::empty(200), headers::CONTENT_TYPE, content_type);
                answer.body = ResponseBody::Stream(Box::new(move |out| {
                    stream(out)?;
                    out.flush()?;
                    backend.backup_sent();
                    Ok(())
                }));
                answer
            }
            Err(error) => refusal(&call, &error),
        });
    });
    backend.backup(request, done);
}

fn refusal(call: &Call, error: &crate::coordinator::Error) -> Response {
    let answer = errors::admin_endpoint(call, error, "");
    match answer.status {
        301 => reply::with(answer, headers::CONTENT_TYPE, headers::OCTET_STREAM),
        _ => answer,
    }
}

fn content_type(format: &Format) -> &'static str {
    match format {
        Format::Text { .. } => headers::SQL,
        Format::Wal | Format::Delete | Format::Vacuumed => headers::OCTET_STREAM,
    }
}

/// `None`: the parameters do not go together.
fn wish(params: &Params) -> Option<Wish> {
    let is = |name: &str| params.format.as_deref().is_some_and(|format| format.eq_ignore_ascii_case(name));
    let format = match params.has(Flag::Vacuum) {
        true if is("sql") || is("delete") => return None,
        true => Format::Vacuumed,
        false if is("sql") => Format::Text { tables: params.tables.clone() },
        false if is("delete") => Format::Delete,
        false => Format::Wal,
    };
    Some(Wish { format, compress: params.has(Flag::Compress) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(query: &str) -> Option<Wish> {
        wish(&Params::parse(query).expect("a valid query"))
    }

    #[test]
    fn parameters_choose_the_format() {
        let of = |format, compress| Some(Wish { format, compress });
        assert_eq!(wished(""), of(Format::Wal, false));
        assert_eq!(wished("fmt=bogus&tables=a"), of(Format::Wal, false));
        assert_eq!(wished("fmt=DELETE&compress"), of(Format::Delete, true));
        assert_eq!(wished("vacuum&fmt=binary"), of(Format::Vacuumed, false));
        let tables = vec!["a b".to_owned(), "c".to_owned()];
        assert_eq!(wished("fmt=Sql&tables=%20a%20b,,%20,c&compress=false"), of(Format::Text { tables }, true));
        assert_eq!(wished("fmt=sql&tables="), of(Format::Text { tables: Vec::new() }, false));
        assert_eq!(wished("fmt=sql&vacuum"), None);
        assert_eq!(wished("fmt=delete&vacuum=0"), None);
    }
}
