//! What the outputs of a server ask of it.

use std::collections::HashSet;
use std::sync::Arc;

use super::{IngestBuilder, InputSettings, READ_BYTES};
use crate::ingest::batch::Batch;
use crate::ingest::envelope::Envelope;
use crate::ingest::framing::{Framing, OutputFraming};
use crate::ingest::output::Output;
use crate::ingest::shared::Shared;
use crate::ingest::sink::batches::Batches;
use crate::ingest::sink::{self, Feed, Form, Lane};
use crate::server::{BoxError, Config, ConfigError, Notices, OutputNeeds, Receiver};

/// What a message becomes must have a length of 32 bits.
const MAX_RENDERED: usize = u32::MAX as usize;

fn slots_of(output: &Output, config: &Config) -> usize {
    match output.own_buffer() {
        None => Lane::required_slots(config.buffer_messages),
        Some(bytes) => Lane::own_slots(bytes),
    }
}

impl IngestBuilder {
    /// The framing that handlers make batches in: that of the first output that takes them as they
    /// are.
    pub(super) fn batch_framing(&self) -> OutputFraming {
        let mut outputs = self.outputs.iter();
        let raw = outputs.find(|output| output.envelope == Envelope::Raw);
        raw.and_then(|output| output.framing)
            .unwrap_or(self.output_framing)
    }

    pub(super) fn check_outputs(&self) -> Result<(), ConfigError> {
        if self.outputs.is_empty() {
            let expected = "at least one".to_owned();
            return Err(ConfigError::out_of_range(
                "outputs",
                "0".to_owned(),
                expected,
            ));
        }
        let mut names = HashSet::new();
        let longest = self.longest_message();
        for output in &self.outputs {
            output.check(longest)?;
            if !names.insert(&output.name) {
                let expected = "a name that no other output has".to_owned();
                return Err(ConfigError::out_of_range(
                    "name",
                    output.name.clone(),
                    expected,
                ));
            }
            if output.envelope.max_bytes(longest, self.longest_name()) > MAX_RENDERED {
                let expected = format!(
                    "so much that the envelope of output {} makes less than 4 GiB of it",
                    output.name
                );
                let value = longest.to_string();
                return Err(ConfigError::out_of_range("max_message", value, expected));
            }
        }
        for (index, input) in self.inputs.iter().enumerate() {
            if let Some(input) = input {
                self.check_route(input)
                    .map_err(|error| error.of_listener(index, &input.label))?;
            }
        }
        Ok(())
    }

    /// Whether a listener's messages go somewhere, and somebody is waited for there.
    fn check_route(&self, input: &InputSettings) -> Result<(), ConfigError> {
        let known = |name: &str| self.outputs.iter().any(|output| output.name == name);
        let unknown = input.to.iter().flatten().find(|name| !known(name));
        if let Some(name) = unknown {
            let names: Vec<_> = self.outputs.iter().map(|output| &*output.name).collect();
            let expected = format!("the name of an output: {}", names.join(", "));
            return Err(ConfigError::out_of_range("to", name.clone(), expected));
        }
        let route = self.route(Some(input));
        let mut outputs = route.iter().map(|&at| &self.outputs[at]);
        if outputs.any(|output| output.is_required) {
            return Ok(());
        }
        let expected = "true of one output at least that its messages go to".to_owned();
        Err(ConfigError::out_of_range(
            "required",
            "false".to_owned(),
            expected,
        ))
    }

    /// The outputs that a listener's messages go to, by their places.
    fn route(&self, input: Option<&InputSettings>) -> Vec<usize> {
        let to = input.and_then(|input| input.to.as_ref());
        let goes_to = |output: &Output| to.is_none_or(|to| to.contains(&output.name));
        let outputs = self.outputs.iter().enumerate();
        let route = outputs.filter(|(_, output)| goes_to(output));
        route.map(|(at, _)| at).collect()
    }

    /// What the consumer does: drives the one sink, or hands out to several.
    pub(super) fn consumer(
        &mut self,
        shared: &Arc<Shared>,
        config: &Config,
    ) -> impl FnOnce(&mut Receiver<Batch>) -> Result<(), BoxError> + Send + 'static {
        let inputs = self.inputs.iter();
        let routes: Vec<_> = inputs.map(|input| self.route(input.as_ref())).collect();
        let patience = config.drain_timeout / 4;
        let (framing, common) = (self.batch_framing(), self.output_framing);
        let is_alone = self.outputs.len() == 1;
        let outputs = std::mem::take(&mut self.outputs).into_iter();
        let lanes = outputs.zip(&shared.outputs).map(|(output, state)| Lane {
            form: Some(output.form(common)).filter(|form| !form.is_as_it_came(framing)),
            max_bytes: output.own_buffer(),
            slots: slots_of(&output, config),
            name: output.name,
            sink: output.sink,
            state: Arc::clone(state),
        });
        let mut lanes: Vec<Lane> = lanes.collect();
        let pool = Arc::clone(&shared.pool);
        move |receiver| match &mut lanes[..] {
            [lane] if is_alone => {
                let (feed, notices) = (Feed::Receiver(receiver), Notices::new());
                let form: Option<Form> = lane.form.take();
                sink::drive(feed, &mut *lane.sink, &pool, &lane.state, form, notices)
            }
            _ => sink::hand_out(receiver, lanes, &routes, &pool, patience),
        }
    }

    /// What "delivered" means at each output.
    pub(super) fn promises(&self) -> Vec<String> {
        let of_output = |output: &Output| {
            let (name, means) = (&output.name, output.sink.delivered_means());
            format!("output {name}: delivered means that {means}")
        };
        self.outputs.iter().map(of_output).collect()
    }

    /// What outputs take of the system.
    pub(super) fn output_needs(&self) -> OutputNeeds {
        let mut needs = OutputNeeds::default();
        let (longest, name) = (self.longest_message(), self.longest_name());
        for output in &self.outputs {
            let resources = output.sink.resources();
            let form = output.form(self.output_framing);
            let rendered = match form.is_as_it_came(self.batch_framing()) {
                true => 0,
                false => form.rendered_bytes(longest, name, READ_BYTES),
            };
            let more = [resources.memory_bytes, rendered, Batches::HELD_BYTES as u64];
            needs.threads = needs.threads.saturating_add(resources.threads);
            if self.outputs.len() > 1 {
                let lane = Lane::bytes(
                    slots_of(output, self.server.settings()),
                    output.own_buffer(),
                );
                needs.threads = needs.threads.saturating_add(1);
                needs.memory_bytes = needs.memory_bytes.saturating_add(lane as u64);
            }
            needs.descriptors = needs.descriptors.saturating_add(resources.descriptors);
            needs.memory_bytes = more
                .into_iter()
                .fold(needs.memory_bytes, u64::saturating_add);
        }
        if self.outputs.len() > 1 {
            let notes = Lane::notes_bytes(self.server.settings().buffer_messages);
            needs.memory_bytes = needs.memory_bytes.saturating_add(notes as u64);
        }
        needs
    }

    /// The longest that a listener is called, in bytes.
    fn longest_name(&self) -> usize {
        let names = self.inputs().map(|(label, _)| label.len());
        names.max().unwrap_or(0)
    }

    /// Where a reader of an output may see two messages instead of one.
    pub(super) fn tear_warnings(&self) -> Vec<String> {
        match &self.outputs[..] {
            [] => self.tear_warnings_of(self.output_framing),
            outputs => {
                let torn = outputs.iter().filter(|output| {
                    output.sink.uses_output_framing() && output.envelope != Envelope::Json
                });
                let warnings = torn.flat_map(|output| {
                    let to = output.framing.unwrap_or(self.output_framing);
                    let at = match outputs.len() {
                        1 => String::new(),
                        _ => format!("output {}: ", output.name),
                    };
                    let warnings = self.tear_warnings_of(to).into_iter();
                    warnings.map(move |warning| format!("{at}{warning}"))
                });
                warnings.collect()
            }
        }
    }

    /// One for all listeners, or one for each where they do not have one framing.
    fn tear_warnings_of(&self, to: OutputFraming) -> Vec<String> {
        let warning = |from: Framing| {
            format!(
                "a message that came as {from} may hold what ends one in {to}: a reader of the output would see two"
            )
        };
        let inputs: Vec<_> = self.inputs().collect();
        let framings = inputs.iter().map(|(_, settings)| settings.framing);
        let tearing = |framing: &Framing| to.can_tear(*framing);
        if let Some(first) = framings.clone().next()
            && framings.clone().all(|framing| framing == first)
        {
            return Some(first)
                .filter(tearing)
                .map(warning)
                .into_iter()
                .collect();
        }
        let of_each = inputs
            .iter()
            .zip(framings)
            .filter(|(_, from)| tearing(from));
        of_each
            .map(|((label, _), from)| format!("at listener {label}, {}", warning(from)))
            .collect()
    }
}
