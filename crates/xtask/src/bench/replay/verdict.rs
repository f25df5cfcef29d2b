//! What a test framework says of one test: read from the lines that name it, so that neither a test that never ran nor
//! a failure of something else counts.

use super::case::Framework;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// The output does not say.
    Silent,
}

/// What the output says of the test of this name. A failure anywhere in it outweighs.
pub(super) fn of(framework: Framework, name: &str, output: &str) -> Verdict {
    let says = |passed: &dyn Fn(&str) -> bool, failed: &dyn Fn(&str) -> bool| {
        let mut lines = output.lines().map(str::trim_end);
        if lines.clone().any(failed) {
            Verdict::Failed
        } else if lines.any(passed) {
            Verdict::Passed
        } else {
            Verdict::Silent
        }
    };
    match framework {
        Framework::Unittest => {
            let [failure, error, run] = ["FAIL: ", "ERROR: ", ""].map(|mark| format!("{mark}{name} ("));
            // What it says of the test may stand a line below its name, where that has a description.
            let verdict =
                says(&|line| line.starts_with(&run), &|line| line.starts_with(&failure) || line.starts_with(&error));
            let all_well = output.lines().any(|line| line.trim_end() == "OK");
            if verdict == Verdict::Passed && !all_well { Verdict::Silent } else { verdict }
        }
        Framework::Pytest => {
            let [passed, failed] = ["PASSED", "FAILED"].map(|word| format!("{word} {name}"));
            let is = |line: &str, whole: &str| line == whole || line.starts_with(&format!("{whole} - "));
            says(&|line| is(line, &passed), &|line| is(line, &failed))
        }
        Framework::Node => {
            says(&|line| line.trim_start().starts_with("ok ") && line.ends_with(&format!(" - {name}")), &|line| {
                line.trim_start().starts_with("not ok ") && line.ends_with(&format!(" - {name}"))
            })
        }
        Framework::Cargo => {
            says(&|line| line == format!("test {name} ... ok"), &|line| line == format!("test {name} ... FAILED"))
        }
    }
}
