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
//! some images have a `/bin/sh` that only ends. So the shell is tried in a child first, for at most
//! [`MAX_TRY`], and where that fails the program goes on as if there were none.

use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitCode, Stdio};

use drainline::Malloc;
use nix::unistd::execve;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::signals::Held;
use super::stderr::say;
use super::{malloc, piped, signal_stacks};

/// The command that the shell executes. The arguments follow, the program's name first.
const RESUME: &str = "execute-again";
/// The command by which the shell is tried. The signals follow that should be blocked and ignored.
const TRY: &str = "try-to-execute-again";
/// The exit code where they are: not that of a `/bin/sh` which does nothing.
const AS_TOLD: u8 = 42;
/// The exit code where those that should be ignored are, and others are blocked than should be.
const CHANGES_MASK: u8 = 43;
/// The variable by which [`RESUME`] knows that the shell executed it.
const FROM_SHELL: &str = "DRAINLINE_FROM_SHELL";
/// The exit code of a command line that cannot be read.
const NO_COMMAND: u8 = 2;

/// The longest that a start waits for the shell.
const MAX_TRY: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

const SHELL: &str = "/bin/sh";
/// A shell that cannot ignore a signal of these names says so, and goes on.
const SCRIPT: &str = r#"trap "" SEGV BUS; exec "$0" "$@""#;

/// Executes this program once more with what it needs, unless somebody has set it or it would have
/// no effect. To be called before any thread is started and anything is opened. Where that is
/// impossible, as when the program's file was deleted or there is no shell, the process goes on as
/// it is, and its limits say so.
///
/// Returns in the executed program, where all is set.
pub(crate) fn ensure(held: &Held) {
    execute_with(held, None);
}

/// The same where the configuration came through a pipe and stays on stdin, from which it is gone
/// when this returns.
pub(super) fn ensure_with_piped_config(held: &Held) {
    execute_with(held, Some(piped::variable()));
    piped::forget();
}

/// `beside`: a variable for the executed program alone.
fn execute_with(held: &Held, beside: Option<(&'static str, OsString)>) {
    let settings = malloc::missing();
    let by_shell = signal_stacks::can_be_left_out();
    if settings.is_empty() && !by_shell {
        return;
    }
    let variables: Vec<_> = settings.iter().cloned().chain(beside).collect();
    let Ok(mut program) = Program::again(&variables) else {
        return;
    };
    if by_shell {
        let mut tried = program.try_shell();
        if tried == Some(CHANGES_MASK.into()) {
            // A shell that unblocks all signals is of use only where none is held back.
            held.let_go();
            tried = program.try_shell();
        }
        if tried == Some(AS_TOLD.into()) {
            let _ = program.by_shell().execute();
        }
        held.hold();
        program.keep_signal_stacks();
    }
    if !settings.is_empty() {
        let _ = program.execute();
    }
}

/// Goes on where the shell left off, or ends as a try of the shell, if that is what `args` ask for.
/// Where the signals are not ignored after all, the program is told to keep its signal stacks, or
/// it would try for ever. Typed by hand, the command has no environment to put back: it is refused.
pub(crate) fn resume(args: &[OsString]) -> Option<ExitCode> {
    let [_, command, args @ ..] = args else {
        return None;
    };
    if let ([told], true) = (args, command == TRY) {
        return Some(ExitCode::from(match signal_stacks::compare(told) {
            Some([true, true]) => AS_TOLD,
            Some([false, true]) => CHANGES_MASK,
            _ => 1,
        }));
    }
    if command != RESUME {
        return None;
    }
    if args.is_empty() || env::var_os(FROM_SHELL).is_none() {
        say(&format!(
            "drainline: '{RESUME}' is a step of the program's start and cannot be typed"
        ));
        return Some(ExitCode::from(NO_COMMAND));
    }
    // To look for each by its name would take time by the square of their number.
    let mut variables: HashMap<_, _> = env::vars_os().collect();
    let environment = (0..).map_while(|n| variables.remove(&numbered(n)));
    let environment = environment.collect();
    if let Ok(mut program) = Program::new(args.to_vec(), environment) {
        if !signal_stacks::are_left_out() {
            program.keep_signal_stacks();
        }
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

    /// So that the executed program does not try the shell again.
    fn keep_signal_stacks(&mut self) {
        self.environment
            .retain(|entry| !signal_stacks::is_switch(entry));
        self.environment.push(signal_stacks::wanted());
    }

    /// The shell that executes this one.
    fn by_shell(&self) -> Program {
        let before = [SHELL, "-c", SCRIPT].map(OsString::from);
        let resume = [self.path.clone(), RESUME.into()];
        let args = before.into_iter().chain(resume);
        let variables = self.environment.iter().enumerate();
        let numbered = variables.map(|(n, variable)| entry(&numbered(n), variable));
        let from_shell = entry(FROM_SHELL.as_ref(), "yes".as_ref());
        Program {
            path: SHELL.into(),
            args: args.chain(self.args.iter().cloned()).collect(),
            environment: numbered.chain([from_shell]).collect(),
        }
    }

    /// [`AS_TOLD`] if the shell ignores both signals, changes no other, and executes this program.
    /// The child inherits the blocked and the ignored signals, but for SIGPIPE, which std ignores.
    fn try_shell(&self) -> Option<i32> {
        let told = signal_stacks::to_be_told()?;
        let mut shell = Command::new(SHELL);
        shell.args(["-c", SCRIPT]).arg(&self.path);
        shell.args([TRY, &told]).env_clear();
        shell.stdin(Stdio::null()).stderr(Stdio::null());
        exit_code(shell)
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

/// The exit code of a child that ends by itself within [`MAX_TRY`].
fn exit_code(mut command: Command) -> Option<i32> {
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let stdout = child.stdout.take()?;
    // Ready only once nobody can write to the pipe any more: the kernel closes a process's
    // descriptors after it has noted the exit code, which a kill no longer changes.
    let mut closed = [PollFd::new(&stdout, PollFlags::empty())];
    let _ = poll(&mut closed, Some(&MAX_TRY));
    // Where SIGCHLD is ignored, the child is gone, and its number may be another process's.
    if let Ok(None) = child.try_wait() {
        let _ = child.kill();
    }
    child.wait().ok()?.code()
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
