//! How large the buffer is.

use std::time::Duration;

use drainline::Config;
use drainline::ingest::DEFAULT_MAX_MESSAGE;

use crate::cli::units;

use super::super::simulation::{self, SLOT_BYTES};
use super::super::words::{count, rate, seconds};
use super::decision::Settings;
use super::decision::{DAY, round_down, round_up};
use super::inputs::Inputs;

/// What the buffer may take of memory where nobody has said how much.
const MAX_BUFFER: u64 = 1 << 30;
const MAX_MESSAGES: u64 = 1 << 24;
pub(super) const MIB: u64 = 1 << 20;
/// A connection that brings more is read in large pieces.
const BULK_BYTES_PER_SECOND: u64 = 4_000_000;

/// How large a buffer is wanted, and how large one there may be.
struct Wanted {
    arrives: u64,
    messages: u64,
    bytes: u64,
    /// What a message weighs.
    weight: u64,
    /// Bytes that it may take.
    memory: u64,
}

impl Wanted {
    fn new(inputs: &Inputs, memory: Option<u64>) -> Wanted {
        let arrives = inputs.arrives_in_stall();
        let messages = match inputs.keeps_up() {
            true => arrives.saturating_add(arrives.div_ceil(4)),
            false => 0,
        };
        // Where much comes at once, reads are large, and their buffers not full.
        let each = inputs.rate / inputs.connections as u64;
        let is_bulk = each.saturating_mul(inputs.size as u64) > BULK_BYTES_PER_SECOND;
        let weight = simulation::heaviest(inputs.size);
        let weight = if is_bulk { weight * 3 / 2 } else { weight };
        let bytes = u128::from(messages) * u128::from(weight);
        Wanted {
            arrives,
            messages,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            weight,
            memory: memory.unwrap_or(MAX_BUFFER),
        }
    }
}

/// Decides how large the buffer is. Returns how long a stall it holds.
pub(super) fn decide(inputs: &Inputs, memory: Option<u64>, settings: &mut Settings) -> Duration {
    let default = Config::default();
    let wanted = Wanted::new(inputs, memory);
    let fits = (wanted.memory / (wanted.weight + SLOT_BYTES)).clamp(1, MAX_MESSAGES);
    let messages = round_up(wanted.messages.max(default.buffer_messages as u64));
    let messages = if messages <= fits {
        messages
    } else {
        round_down(fits)
    };
    let left = wanted.memory.saturating_sub(messages * SLOT_BYTES);
    let bytes = wanted
        .bytes
        .max(default.buffer_bytes as u64)
        .max(least_buffer(inputs));
    let bytes = match bytes.checked_next_multiple_of(MIB) {
        Some(bytes) if bytes <= left => bytes,
        _ => left / MIB * MIB,
    };
    settings.config.buffer_messages = messages as usize;
    settings.config.buffer_bytes = bytes as usize;
    let held = messages.min(bytes / wanted.weight.max(1));
    let holds = held as f64 / inputs.rate as f64;
    let holds = Duration::try_from_secs_f64(holds).unwrap_or(DAY);

    let unused = "what is not used costs 16 bytes a message";
    let arriving = format!(
        "{} for {} are {} messages",
        rate(inputs.rate),
        units::print_duration(inputs.stall),
        count(wanted.arrives)
    );
    let why = if !inputs.keeps_up() {
        fills_up(inputs, messages)
    } else if messages < wanted.arrives {
        format!("{arriving}, which is more than the memory for the buffer holds")
    } else if messages < wanted.messages {
        format!(
            "{arriving}, and as much more for uneven arrivals as the memory for the buffer holds"
        )
    } else if messages < default.buffer_messages as u64 {
        format!("{arriving}: the memory for the buffer holds more")
    } else if inputs.stall.is_zero() {
        format!("the default, as there is no stall to hold; {unused}")
    } else if wanted.messages <= default.buffer_messages as u64 {
        format!("{arriving}: the default holds more, and {unused}")
    } else {
        format!("{arriving}, and a quarter more for uneven arrivals")
    };
    settings.decide("--buffer-messages", messages.to_string(), why);

    let mut why = format!(
        "a message of {} weighs up to {} B in the buffer, with its share of the batch around it",
        units::print_size(inputs.size),
        count(wanted.weight)
    );
    if bytes < wanted.bytes {
        let holds = format!("it holds what arrives in {} at least", seconds(holds));
        why += &match memory {
            Some(_) => format!(". This is what --memory leaves; {holds}"),
            None => format!(". Without --memory a plan takes no more; {holds}"),
        };
    }
    settings.decide("--buffer-bytes", units::print_size(bytes as usize), why);
    let message = longest_message(inputs);
    if message > settings.max_message {
        settings.max_message = message;
        let why = "no message is truncated".to_owned();
        settings.decide("--max-message", units::print_size(message), why);
    }
    holds
}

/// When a buffer is full whose sink does not keep up.
fn fills_up(inputs: &Inputs, messages: u64) -> String {
    let sink = inputs.sink_rate.unwrap_or_default();
    match inputs.rate.saturating_sub(sink) {
        0 => "in this load it keeps what a stall leaves in it, and a larger one would only make messages older".to_owned(),
        over => format!(
            "in this load it is full after {} and stays full, and a larger one would only make messages older",
            seconds(Duration::from_secs(messages / over))
        ),
    }
}

/// No message is truncated.
fn longest_message(inputs: &Inputs) -> usize {
    match inputs.size {
        size if size > DEFAULT_MAX_MESSAGE => size.next_multiple_of(1 << 10),
        _ => DEFAULT_MAX_MESSAGE,
    }
}

/// Below this a buffer is none. A batch is an eighth of it at most; a message that is heavier
/// leaves it half empty.
pub(super) fn least_buffer(inputs: &Inputs) -> u64 {
    (8 * (longest_message(inputs) as u64 + 1024)).next_multiple_of(MIB)
}
