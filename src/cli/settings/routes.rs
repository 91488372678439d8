//! Which listeners send to which outputs.

use super::listeners::{self, ListenerSettings};
use super::outputs::{NAME, OutputSettings, REQUIRED, SINK};
use crate::cli::usage::{UsageError, nearest};

/// Whether the outputs that listeners name are there, and each gets messages of some listener.
/// `stand_in` is what has replaced the outputs of the configuration file, if anything.
pub(super) fn check(
    listeners: &[ListenerSettings],
    outputs: &[&OutputSettings],
    stand_in: Option<&str>,
) -> Result<(), UsageError> {
    let is_called = |output: &OutputSettings, name: &String| output.name.as_ref() == Some(name);
    for listener in listeners {
        for name in listener.to().into_iter().flatten() {
            if !outputs.iter().any(|output| is_called(output, name)) {
                let names: Vec<String> = outputs.iter().filter_map(|it| it.name.clone()).collect();
                let mut expected = match (nearest(name, &names), &names[..]) {
                    (Some(name), _) => format!("the name of an output: did you mean {name}?"),
                    (None, []) => "the name of an output, and none has one".to_owned(),
                    (None, names) => format!("the name of an output: {}", names.join(", ")),
                };
                if let Some(sink) = stand_in {
                    expected += &format!(" ({sink} replaces the outputs of the file)");
                }
                return Err(listener.named(listeners::TO).contradiction(name, &expected));
            }
        }
    }
    let goes_to = |listener: &ListenerSettings, output: &OutputSettings| {
        let to = listener.to();
        to.is_none_or(|to| to.iter().any(|name| is_called(output, name)))
    };
    for listener in listeners {
        let mut route = outputs.iter().filter(|output| goes_to(listener, output));
        match route.clone().next() {
            Some(first) if !route.any(|output| output.required) => {
                return Err(match listener.to() {
                    Some(_) => {
                        let expected = "an output among them that is required";
                        let words = listener.words(listeners::TO);
                        listener
                            .named(listeners::TO)
                            .contradiction(&words, expected)
                    }
                    None => first.contradicts(REQUIRED, "true of one output at least"),
                });
            }
            _ => {}
        }
    }
    let gets_some = |output: &OutputSettings| listeners.iter().any(|it| goes_to(it, output));
    let expected = "a listener that sends to it: each has a to, and none has its name";
    match outputs.iter().find(|output| !gets_some(output)) {
        Some(output) if output.name.is_some() => Err(output.contradicts(NAME, expected)),
        Some(output) => Err(output.contradicts(SINK, expected)),
        None => Ok(()),
    }
}
