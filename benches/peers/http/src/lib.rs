//! What both programs have in common: a body for `_bulk`, and how it is sent.

use jiff::Timestamp;
use ureq::Agent;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Of an answer to `_bulk` no more is asked for than drainline asks for.
pub const QUERY: &str = "_bulk?filter_path=errors,items.create.status,\
    items.create.error.type,items.create.error.reason";
/// Documents of one body, as drainline limits them.
pub const MAX_DOCUMENTS: u64 = 10_000;

/// An agent on its defaults, but for statuses.
pub fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false);
    config.build().new_agent()
}

/// The time, as it stands in a document.
pub fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

/// Adds a line as a document.
pub fn put(document: &mut Vec<u8>, time: &str, line: &str) {
    document.extend_from_slice(b"{\"create\":{}}\n{\"@timestamp\":\"");
    document.extend_from_slice(time.as_bytes());
    document.extend_from_slice(b"\",\"message\":");
    serde_json::to_writer(&mut *document, line).expect("a string is JSON");
    document.extend_from_slice(b"}\n");
}

/// Sends a body, and reads the whole answer. A document that failed is an error.
pub fn post(agent: &Agent, url: &str, body: &[u8]) -> Outcome<()> {
    let request = agent.post(url);
    let request = request.header("content-type", "application/x-ndjson");
    let mut response = request.send(body)?;
    let answer = response.body_mut().read_to_vec()?;
    if response.status() != 200 || !answer.starts_with(b"{\"errors\":false") {
        let answer = String::from_utf8_lossy(&answer);
        return Err(format!("{}: {:.200}", response.status(), answer).into());
    }
    Ok(())
}
