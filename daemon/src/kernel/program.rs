//! Programs of the object, loaded.

use aya::Ebpf;
use aya::programs::SchedClassifier;

use super::KernelError;
use super::generation::Loading;

/// A loaded program that is not attached yet.
pub struct Program {
    object: Loading,
    name: &'static str,
}

impl Program {
    pub(super) fn load(object: Loading, name: &'static str) -> Result<Self, KernelError> {
        let mut program = Self { object, name };
        load(&mut program.object, name)?;
        Ok(program)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.object.ebpf
    }

    /// The program as aya sees it.
    ///
    /// # Errors
    /// The object has no such classifier.
    pub fn classifier(&mut self) -> Result<&mut SchedClassifier, String> {
        classifier(&mut self.object.ebpf, self.name)
    }
}

/// Loads a program of an object.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn load<'o>(object: &'o mut Loading, name: &'static str) -> Result<&'o mut SchedClassifier, KernelError> {
    let refuse = |reason| KernelError::Program { program: name, reason };
    let program = classifier(&mut object.ebpf, name).map_err(refuse)?;
    program.load().map_err(|error| refuse(reason(&error)))?;
    Ok(program)
}

fn classifier<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut SchedClassifier, String> {
    let program = object.program_mut(name).ok_or("no such program in the object")?;
    program.try_into().map_err(|error: aya::programs::ProgramError| error.to_string())
}

/// An error with its causes; of the verifier's log the last line that says something.
pub fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    const STATISTICS: [&str; 3] = ["processed ", "verification time", "stack depth"];
    let telling = lines.rfind(|line| !STATISTICS.iter().any(|words| line.starts_with(words)));
    telling.map_or_else(|| first.clone(), |last| format!("{first} ... {last}"))
}
