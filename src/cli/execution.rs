//! This program, executed once more where something is missing that only a start can set: malloc's
//! settings, and the signals for which std would map a stack for each thread. Its process, its
//! arguments, its descriptors, its ignored signals and its mask of signals stay.
//!
//! The signals take a shell in between: program, `/bin/sh`, program by [`RESUME`], program. Shells
//! change the environment that they pass on (dash drops names with a dot, bash counts SHLVL, some
//! obey variables) and choose the first argument themselves. So the shell gets all arguments behind
//! [`RESUME`] and each variable, name and value, as the value of a numbered one; [`resume`] puts
//! them back. Variables do not become arguments, which other users can read.
//!
//! Shells differ in more than that: bash unblocks SIGCHLD, ksh and mksh unblock all signals, and
//! some images have a `/bin/sh` that only ends. So the shell is tried in a child first.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitCode, Stdio};

use drainline::Malloc;
use nix::unistd::execve;

use super::stderr::say;
use super::{malloc, signal_stacks};

/// The command that the shell executes. The arguments follow, the program's name first.
const RESUME: &str = "execute-again";
/// The command by which the shell is tried. The signals follow that should be blocked and ignored.
const TRY: &str = "try-to-execute-again";
/// The exit code where they are: not that of a `/bin/sh` which does nothing.
const AS_TOLD: u8 = 42;

const SHELL: &str = "/bin/sh";
/// A shell that cannot ignore a signal of these names says so, and goes on.
const SCRIPT: &str = r#"trap "" SEGV BUS; exec "$0" "$@""#;

/// Executes this program once more with what it needs, unless somebody has set it or it would have
/// no effect. To be called before any thread is started and anything is opened. Where that is
/// impossible, as when the program's file was deleted or there is no shell, the process goes on as
/// it is, and its limits say so.
///
/// Returns in the executed program, where all is set.
pub(crate) fn ensure() {
    let settings = malloc::missing();
    let by_shell = signal_stacks::can_be_left_out();
    if settings.is_empty() && !by_shell {
        return;
    }
    let Ok(program) = Program::again(&settings) else {
        return;
    };
    if by_shell && program.can_be_resumed() {
        let _ = program.by_shell().execute();
    }
    if !settings.is_empty() {
        let _ = program.execute();
    }
}

/// Goes on where the shell left off, or ends as a try of the shell, if that is what `args` ask for.
/// Where the signals are not ignored after all, the program is told to keep its signal stacks, or
/// it would try for ever.
pub(crate) fn resume(args: &[OsString]) -> Option<ExitCode> {
    let [_, command, args @ ..] = args else {
        return None;
    };
    if let ([told], true) = (args, command == TRY) {
        let are_as_told = signal_stacks::are_as_told(told);
        return Some(ExitCode::from(if are_as_told { AS_TOLD } else { 1 }));
    }
    if command != RESUME {
        return None;
    }
    let mut environment: Vec<OsString> = (0..).map_while(|n| env::var_os(numbered(n))).collect();
    if !signal_stacks::are_left_out() {
        environment.push(signal_stacks::wanted());
    }
    if let Ok(program) = Program::new(args.to_vec(), environment) {
        let _ = program.execute();
    }
    say("drainline: its file was removed while it started");
    Some(ExitCode::FAILURE)
}

/// A program to be executed in this process.
struct Program {
    path: OsString,
    args: Vec<OsString>,
    /// Each entry is a name, an equals sign and a value.
    environment: Vec<OsString>,
}

impl Program {
    /// This one as it was started, with `settings` in its environment.
    fn again(settings: &[(&str, OsString)]) -> std::io::Result<Program> {
        let is_inherited = |name: &OsStr| settings.iter().all(|(set, _)| name != *set);
        let inherited = env::vars_os().filter(|(name, _)| is_inherited(name));
        let inherited = inherited.map(|(name, value)| match name == malloc::TUNABLES {
            true => entry(&name, &Malloc::tunables()),
            false => entry(&name, &value),
        });
        let set = settings
            .iter()
            .map(|(name, value)| entry(name.as_ref(), value));
        Program::new(env::args_os().collect(), inherited.chain(set).collect())
    }

    /// This one. Not by `/proc/self/exe`, under which ps(1) and pidof(8) would show `exe`.
    fn new(args: Vec<OsString>, environment: Vec<OsString>) -> std::io::Result<Program> {
        Ok(Program {
            path: env::current_exe()?.into_os_string(),
            args,
            environment,
        })
    }

    /// The shell that executes this one.
    fn by_shell(&self) -> Program {
        let before = [SHELL, "-c", SCRIPT].map(OsString::from);
        let resume = [self.path.clone(), RESUME.into()];
        let args = before.into_iter().chain(resume);
        let variables = self.environment.iter().enumerate();
        Program {
            path: SHELL.into(),
            args: args.chain(self.args.iter().cloned()).collect(),
            environment: variables
                .map(|(n, variable)| entry(&numbered(n), variable))
                .collect(),
        }
    }

    /// Whether the shell ignores both signals, changes no other, and executes this program. The
    /// child inherits the blocked and the ignored signals, but for SIGPIPE, which std ignores.
    fn can_be_resumed(&self) -> bool {
        let Some(told) = signal_stacks::to_be_told() else {
            return false;
        };
        let mut shell = Command::new(SHELL);
        shell.args(["-c", SCRIPT]).arg(&self.path);
        shell.args([TRY, &told]).env_clear();
        shell.stdin(Stdio::null());
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        let status = shell.status().ok();
        status.and_then(|status| status.code()) == Some(AS_TOLD.into())
    }

    /// Not by std's `Command`, which leaves SIGPIPE at its default where the call fails.
    fn execute(&self) -> Option<Infallible> {
        let c_string = |text: &OsString| CString::new(text.as_bytes()).ok();
        let c_strings =
            |texts: &[OsString]| -> Option<Vec<CString>> { texts.iter().map(c_string).collect() };
        let (args, environment) = (c_strings(&self.args)?, c_strings(&self.environment)?);
        execve(&c_string(&self.path)?, &args, &environment).ok()
    }
}

fn entry(name: &OsStr, value: &OsStr) -> OsString {
    let mut entry = name.to_owned();
    entry.push("=");
    entry.push(value);
    entry
}

/// The name of the variable that holds another one: any shell passes it on.
fn numbered(n: usize) -> OsString {
    format!("DRAINLINE_VARIABLE_{n}").into()
}
