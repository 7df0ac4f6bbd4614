//! Reads the guest's serial console: which tests passed, and whether it came to its end.

/// What has been said so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    passed: u64,
    failed: u64,
    /// Failed tests of the place that is running; a status that nothing explains is a failure too.
    explained: bool,
    place: String,
    /// Within the output of tests that passed.
    quiet: bool,
    done: bool,
    notes: Vec<String>,
}

impl Report {
    /// Takes a line in; answers whether it is worth showing.
    pub(super) fn read(&mut self, line: &str) -> bool {
        if let Some(said) = line.strip_prefix("== ") {
            self.quiet = false;
            self.heard(said);
            return true;
        }
        match line {
            "successes:" => self.quiet = true,
            "failures:" => self.quiet = false,
            _ => {}
        }
        if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            match outcome {
                "ok" => self.passed += 1,
                "FAILED" => {
                    self.failed += 1;
                    self.explained = true;
                    self.notes.push(format!("failed {name} ({})", self.place));
                }
                // Marked as a measurement or the like.
                _ => {}
            }
        }
        if let Some((_, reason)) = line.split_once("skipped: ") {
            self.notes.push(format!("skipped {reason} ({})", self.place));
        }
        !self.quiet && !line.is_empty()
    }

    fn heard(&mut self, said: &str) {
        if said == "done" {
            self.done = true;
        } else if let Some(status) = said.strip_prefix("ended ") {
            if status != "0" && !self.explained {
                self.trouble(format!("the tests broke off with status {status}: {}", self.place));
            }
            self.explained = false;
        } else if let Some(left) = said.strip_prefix("left: ") {
            if !left.trim().is_empty() {
                self.trouble(format!("control groups were left over: {left}"));
            }
        } else {
            said.clone_into(&mut self.place);
        }
    }

    /// Something failed that is not a test.
    pub(super) fn trouble(&mut self, what: String) {
        self.failed += 1;
        self.notes.push(format!("trouble: {what}"));
    }

    /// What is said at the end.
    pub(super) fn sum(&mut self) -> String {
        if !self.done {
            self.done = true;
            self.trouble("the guest did not come to its end".to_owned());
        }
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        format!("\n{notes}{} passed, {} failed\n", self.passed, self.failed)
    }

    /// Whether everything went well, and there was something.
    pub(super) fn passed(&self) -> bool {
        self.done && self.failed == 0 && self.passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, sum: &str, passed: bool) {
        let mut report = Report::default();
        for line in text.lines() {
            report.read(line);
        }
        assert_eq!(report.sum(), sum);
        assert_eq!(report.passed(), passed);
    }

    #[test]
    fn tests_are_counted_and_whatever_breaks_off_is_a_failure() {
        let good = "== root\ntest a ... ok\ntest b ... ignored, a measurement\n== ended 0\n== left: \n== done\n";
        check(good, "\n1 passed, 0 failed\n", true);
        check(
            "== root\ntest a ... FAILED\ntest b ... ok\n== ended 101\n== left: \n== done\n",
            "\nfailed a (root)\n1 passed, 1 failed\n",
            false,
        );
        check(
            "== root\ntest a ... ok\n== ended 137\n== done\n",
            "\ntrouble: the tests broke off with status 137: root\n1 passed, 1 failed\n",
            false,
        );
        check(
            "== root\ntest a ... ok\nKernel panic\n",
            "\ntrouble: the guest did not come to its end\n1 passed, 1 failed\n",
            false,
        );
        check(
            "== root\ntest a ... ok\n== ended 0\n== left: /sys/fs/cgroup/eyot-1 \n== done\n",
            "\ntrouble: control groups were left over: /sys/fs/cgroup/eyot-1 \n1 passed, 1 failed\n",
            false,
        );
        check("== done\n", "\n0 passed, 0 failed\n", false);
    }

    #[test]
    fn what_was_left_out_is_named() {
        let mut report = Report::default();
        for line in ["== root", "test a ... ok", "successes:", "", "user: skipped: no group"] {
            report.read(line);
        }
        assert!(report.sum().contains("skipped no group (root)"));
    }
}
