//! `GET /licenses`: the licence of this server and of what is built into it.

use crate::http::front::Call;
use crate::http::headers;
use crate::http::reply::{self, Reply};

const LICENSES: &str = concat!(include_str!("../../../LICENSE"), "\n", include_str!("../licenses.txt"));

pub fn handle(_: Call, reply: Reply) {
    reply.send(reply::body(200, headers::TEXT, LICENSES));
}
