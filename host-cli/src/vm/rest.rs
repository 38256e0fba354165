//! vfkit's REST service, as its usage page has it: JSON over HTTP on a unix socket. In: a path, and a document. Out: the answer's
//! document. It refuses answers that are no success, that are late, or that have no end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::output::io_reason;

/// Where a machine's state is asked for and changed.
pub const STATE: &str = "/vm/state";
const ANSWER: Duration = Duration::from_secs(10);
const ANSWER_MAX: u64 = 64 * 1024;

/// The service on one socket.
pub struct Rest<'a> {
    socket: &'a Path,
}

impl<'a> Rest<'a> {
    pub fn at(socket: &'a Path) -> Self {
        Self { socket }
    }

    pub fn get(&self, path: &str) -> Result<Value, String> {
        let body = self.ask(&request("GET", path, ""))?;
        serde_json::from_str(&body)
            .map_err(|error| format!("its REST service said no JSON: {error}"))
    }

    pub fn post(&self, path: &str, document: &Value) -> Result<(), String> {
        self.ask(&request("POST", path, &document.to_string()))
            .map(drop)
    }

    fn ask(&self, request: &str) -> Result<String, String> {
        let asked = || {
            let mut stream = UnixStream::connect(self.socket)?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = asked().map_err(|error| {
            let why = io_reason(&error);
            format!("its REST service at {}: {why}", self.socket.display())
        })?;
        body(&String::from_utf8_lossy(&answer))
    }
}

/// HTTP/1.0: the answer comes whole, and ends with the connection.
fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.0\r\nHost: vfkit\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn body(answer: &str) -> Result<String, String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("its REST service answered no HTTP")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    match status.starts_with('2') {
        true => Ok(body.to_owned()),
        false => Err(format!(
            "its REST service answered {status} {}",
            body.trim()
        )),
    }
}

/// `VirtualMachineStateRunning`: running.
pub fn status(state: &Value) -> Result<String, String> {
    let word = state["state"]
        .as_str()
        .ok_or("its REST service told no state")?;
    let word = word.strip_prefix("VirtualMachineState").unwrap_or(word);
    Ok(word.to_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_taken_as_http_has_them() {
        for (answer, wanted) in [
            ("HTTP/1.0 200 OK\r\nServer: x\r\n\r\n{}", Ok("{}")),
            ("HTTP/1.1 202 Accepted\r\n\r\n", Ok("")),
            (
                "HTTP/1.0 500 Internal Server Error\r\n\r\n{\"error\":\"no\"}\n",
                Err("its REST service answered 500 {\"error\":\"no\"}"),
            ),
            ("", Err("its REST service answered no HTTP")),
        ] {
            let wanted = wanted.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(body(answer), wanted);
        }
    }

    #[test]
    fn a_state_is_a_word() {
        for (state, word) in [
            (
                json!({ "state": "VirtualMachineStateRunning" }),
                Some("running"),
            ),
            (json!({ "state": "Paused" }), Some("paused")),
            (json!({}), None),
        ] {
            assert_eq!(status(&state).ok().as_deref(), word);
        }
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let text = request("POST", STATE, "{\"state\":\"Stop\"}");
        assert!(text.starts_with("POST /vm/state HTTP/1.0\r\n"), "{text}");
        assert!(text.contains("Content-Length: 16\r\n"), "{text}");
    }
}
