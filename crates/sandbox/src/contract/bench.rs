//! One test's driver, package and state directory, and the check that nothing of it remains.

use crate::container::Container;
use crate::process::Process;
use crate::{Config, Driver, Error, Exit, Limits, Sandbox, Spec, State};
use domain::Clock;
use domain::id::SandboxId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// Long enough for a busy machine; a wait for an event never takes it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The port that callers name.
pub(super) const PORT: u16 = 8080;
/// The epoch of the servers that a bench plays.
pub(super) const EPOCH: u64 = 7;

/// Which driver a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Process,
    Container,
}

/// A driver on a fresh state directory.
pub(super) struct Bench {
    pub(super) which: Which,
    pub(super) driver: Arc<dyn Driver>,
    dir: tempfile::TempDir,
}

/// A Python interpreter that the suite's agents can use, with what it needs.
pub(super) struct Python {
    pub(super) program: String,
    pub(super) read_only: Vec<PathBuf>,
}

impl Bench {
    pub(super) fn new(which: Which) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("package");
        fs::create_dir(&package).unwrap();
        fs::write(package.join("agent.py"), include_str!("agent.py")).unwrap();
        fs::write(package.join("data.txt"), "as packed").unwrap();
        let driver = driver(which, &dir.path().join("state")).unwrap();
        Self { which, driver, dir }
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(super) fn package(&self) -> PathBuf {
        self.dir.path().join("package")
    }

    /// A driver as a restarted server would make it.
    pub(super) fn restarted(&self) -> Arc<dyn Driver> {
        self.successor(EPOCH)
    }

    /// The same with another epoch.
    pub(super) fn successor(&self, epoch: u64) -> Arc<dyn Driver> {
        driver_of(self.which, &self.state_dir(), epoch).unwrap()
    }

    /// A spec for a program.
    pub(super) fn spec(&self, command: &[&str]) -> Spec {
        spec(&self.package(), command)
    }

    /// A shell script that ends or sleeps.
    pub(super) fn shell(&self, script: &str) -> Spec {
        self.spec(&["/bin/sh", "-c", script])
    }

    /// Python code.
    pub(super) fn python(&self, code: &str) -> Spec {
        let python = python();
        let mut spec = self.spec(&[&python.program, "-u", "-c", code]);
        spec.read_only.clone_from(&python.read_only);
        spec
    }

    /// The agent that executes what it is sent.
    pub(super) fn agent(&self) -> Spec {
        let python = python();
        let mut spec = self.spec(&[&python.program, "-u", "agent.py", "8080"]);
        spec.read_only.clone_from(&python.read_only);
        spec
    }

    /// Starts and waits until it listens.
    pub(super) async fn listening(&self, spec: Spec) -> Arc<dyn Sandbox> {
        let sandbox = self.driver.start(spec).await.unwrap();
        listening(&*sandbox).await;
        sandbox
    }

    /// Starts and waits for the end.
    pub(super) async fn ended(&self, spec: Spec) -> (Arc<dyn Sandbox>, Exit) {
        let sandbox = self.driver.start(spec).await.unwrap();
        let exit = exited(&*sandbox).await;
        (sandbox, exit)
    }

    /// Fails if a process, mount, control group, slot or file of this bench is left.
    pub(super) async fn assert_nothing_left(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left over: {left:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let root = fs::canonicalize(self.dir.path()).unwrap();
        let place = root.to_str().unwrap();
        let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
        let hidden = |name: &std::ffi::OsStr| matches!(name.to_str(), Some(".slots" | ".trial"));
        left.extend(
            list(root.join("state"))
                .filter(|e| !hidden(&e.file_name()))
                .map(|e| format!("{:?}", e.path())),
        );
        left.extend(list(root.join("state/.slots")).map(|e| format!("{:?}", e.path())));
        for process in list(PathBuf::from("/proc")) {
            let path = process.path();
            let pid = process.file_name().to_string_lossy().parse::<u32>();
            if pid.is_err() || pid == Ok(std::process::id()) {
                continue;
            }
            let read = |name: &str| fs::read(path.join(name)).unwrap_or_default();
            let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
            let files = list(path.join("fd")).filter_map(|e| fs::read_link(e.path()).ok());
            let in_use = files
                .chain(fs::read_link(path.join("cwd")))
                .any(|file| file.starts_with(&root));
            if in_use || text("mountinfo").contains(place) || text("environ").contains(place) {
                left.push(format!(
                    "process {}: {}",
                    path.display(),
                    text("cmdline").replace('\0', " ")
                ));
            }
        }
        if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(place) {
            left.push("a mount in the host's namespace".into());
        }
        let key = crate::supervised::key(&root.join("state"));
        left.extend(
            find_groups(&format!("eyot-{key}"))
                .into_iter()
                .map(|path| path.display().to_string()),
        );
        left
    }
}

/// A test that fails leaves nothing on the machine either.
impl Drop for Bench {
    fn drop(&mut self) {
        crate::supervised::Host::erase_all(&self.state_dir());
    }
}

pub(super) fn driver(which: Which, state_dir: &Path) -> Result<Arc<dyn Driver>, Error> {
    driver_of(which, state_dir, EPOCH)
}

fn driver_of(which: Which, state_dir: &Path, epoch: u64) -> Result<Arc<dyn Driver>, Error> {
    let config = Config {
        state_dir: state_dir.to_owned(),
        clock: Clock::system(),
        epoch,
    };
    Ok(match which {
        Which::Process => Arc::new(Process::new(config)?),
        Which::Container => Arc::new(Container::new(config)?),
    })
}

pub(super) fn spec(package: &Path, command: &[&str]) -> Spec {
    Spec {
        id: SandboxId::generate(),
        labels: BTreeMap::from([("session".to_owned(), "s1".to_owned())]),
        package: package.to_owned(),
        read_only: Vec::new(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        port: PORT,
        listen: Vec::new(),
        limits: Limits {
            memory: 256 << 20,
            pids: 64,
            cpu_millis: 2000,
            scratch: 64 << 20,
            log: 64 << 10,
        },
        storage: None,
        orphan_after: std::time::Duration::from_secs(3600),
    }
}

/// `cgroup v2` on a machine that was made for it (`cargo xtask cgroup-v2`), where a limit that is not there is a failure and
/// no reason to skip.
pub(super) fn limits_wanted() -> Option<String> {
    std::env::var("EYOT_TEST_LIMITS").ok()
}

/// Directories of this name in any hierarchy.
fn find_groups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((dir, depth)) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    found.push(entry.path());
                } else if depth < 5 {
                    open.push((entry.path(), depth + 1));
                }
            }
        }
    }
    found
}

/// Root takes the interpreter on the PATH, which may lie in a home directory that an agent's user could not enter;
/// another user takes the system's.
pub(super) fn python() -> &'static Python {
    static PYTHON: OnceLock<Python> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let name = if crate::sys::is_root() {
            "python3"
        } else {
            "/usr/bin/python3"
        };
        let code = "import sys; print(sys.executable); print(sys.base_prefix)";
        let output = Command::new(name)
            .args(["-c", code])
            .output()
            .expect("the suite needs python3");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines();
        let program = lines.next().expect("python3 did not say where it is").to_owned();
        let prefix = PathBuf::from(lines.next().unwrap());
        let read_only = if prefix.starts_with("/usr") {
            Vec::new()
        } else {
            vec![prefix]
        };
        Python { program, read_only }
    })
}

/// Waits for the port.
pub(super) async fn listening(sandbox: &dyn Sandbox) {
    let mut state = sandbox.state();
    let wait = state.wait_for(|state| *state != State::Started);
    let now = tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it never listened")
        .unwrap()
        .clone();
    if now != State::Listening {
        panic!("{now:?}: {}", sandbox.log_tail(4096).await.unwrap_or_default());
    }
}

/// Waits for the end.
pub(super) async fn exited(sandbox: &dyn Sandbox) -> Exit {
    let mut state = sandbox.state();
    let wait = state.wait_for(|state| matches!(state, State::Exited(_)));
    match &*tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it never ended")
        .unwrap()
    {
        State::Exited(exit) => exit.clone(),
        other => panic!("{other:?}"),
    }
}

/// Has the agent execute Python code; what it leaves in `r`, or the exception.
pub(super) async fn run(sandbox: &dyn Sandbox, code: &str) -> Result<Value, String> {
    let mut stream = sandbox.dial(PORT).await.unwrap();
    let mut line = serde_json::to_vec(code).unwrap();
    line.push(b'\n');
    stream.write_all(&line).await.unwrap();
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    tokio::time::timeout(PATIENCE, reader.read_line(&mut answer))
        .await
        .expect("no answer")
        .unwrap();
    let mut answer: Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: '{answer}'"));
    match answer.get("error") {
        Some(error) => Err(error.as_str().unwrap().to_owned()),
        None => Ok(answer["ok"].take()),
    }
}

/// Makes a file that can be run.
pub(super) fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
