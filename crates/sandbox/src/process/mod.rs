//! The driver without walls: each sandbox is a child process with its orphans, on a free port.
//!
//! **It does not isolate.** An agent can read the server's files, talk to every port of the machine and see every process.
//! It is for development, on hosts where the `container` driver cannot run.
//!
//! What it does give each sandbox: a copy of the package as working directory, `HOME` and `TMPDIR` of its own, the limits
//! of control groups where the server may make them, and an end that takes all descendants along.
//!
//! **The port.** All agents share the host's ports, and the agent's usual one (8080) may be taken, so each sandbox gets a
//! free port in `PORT`, and the caller's `dial(8080)` goes there. An agent that ignores `PORT` collides with the next
//! one. The real `bedrock-agentcore` SDK ignores it, so Python commands start with a module (`shim.py`, through
//! `PYTHONPATH`) that moves a bind of the usual port to `$PORT`. It works for what binds through Python's `socket`
//! module, as uvicorn on asyncio does; a server that binds in C (uvloop) must read `PORT`, or run in a container.
//!
//! Invariant: nothing here is called isolation, in any message.

mod copy;
mod port;

use crate::cgroup::Controller;
use crate::supervised::{Host, Kind, Parts, Record, Slots, Standing};
use crate::{Abilities, Config, Driver, Error, Found, Listen, Probe, Sandbox, Spec};
use async_trait::async_trait;
use domain::id::SandboxId;
use guest::protocol::Mode;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Moves Python's binds; its two numbers are filled in for each sandbox.
const SHIM: &str = include_str!("shim.py");

/// The driver.
#[derive(Debug)]
pub struct Process {
    host: Arc<Host>,
    ports: Arc<Slots>,
}

impl Process {
    /// A driver on a state directory, which it makes if need be.
    pub fn new(config: Config) -> Result<Self, Error> {
        let host = Host::new(Kind::Process, config)?;
        let ports = Slots::new(host.state_dir(), "port", port::COUNT, host.seed());
        Ok(Self {
            host: Arc::new(host),
            ports: Arc::new(ports),
        })
    }

    async fn launch(&self, spec: Spec) -> Result<(Arc<dyn Sandbox>, Standing), Error> {
        self.host
            .start(
                spec,
                Layout {
                    ports: Arc::clone(&self.ports),
                },
            )
            .await
    }
}

#[async_trait]
impl Driver for Process {
    fn name(&self) -> &'static str {
        Kind::Process.name()
    }

    async fn probe(&self) -> Result<Probe, Error> {
        let Standing { warnings, .. } = crate::detect::trial(self.host.state_dir(), |spec| self.launch(spec)).await?;
        let mut all = vec![
            "the driver 'process' does NOT isolate: an agent has all the rights of this server's user, its files and its \
             network; use it for development only"
                .to_owned(),
        ];
        all.extend(warnings);
        all.extend(self.host.groups().warnings());
        Ok(Probe {
            walls: self.host.groups().walls(),
            warnings: all,
        })
    }

    async fn start(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, Error> {
        self.launch(spec).await.map(|(sandbox, _)| sandbox)
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        self.host.list().await
    }

    async fn adopt(&self, id: &SandboxId) -> Result<Arc<dyn Sandbox>, Error> {
        self.host.adopt(id).await
    }

    async fn destroy(&self, id: &SandboxId) -> Result<(), Error> {
        self.host.destroy(id).await
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            pause: self.host.groups().has(Controller::Freezer),
            storage: false,
        }
    }
}

/// What a sandbox of this driver has in its directory.
struct Layout {
    ports: Arc<Slots>,
}

impl Parts for Layout {
    fn claim(&self, spec: &Spec, record: &mut Record) -> Result<(), Error> {
        if spec.storage.is_some() {
            return Err(Error::Host(
                "the driver 'process' has no session storage; use the driver 'container'".into(),
            ));
        }
        let range = port::ephemeral();
        let mut claim = || {
            let (slot, name) = self.ports.claim(&spec.id, |slot| {
                let port = port::of(slot);
                port != spec.port && !range.contains(&port) && port::is_free(port)
            })?;
            record.slots.push(name);
            Ok(port::of(slot))
        };
        record.real_port = claim()?;
        for Listen { address, .. } in &spec.listen {
            let real = SocketAddrV4::new(Ipv4Addr::LOCALHOST, claim()?);
            record.listen.push((*address, real));
        }
        Ok(())
    }

    fn prepare(&self, spec: &Spec, record: &Record, dir: &Path) -> Result<(Mode, Vec<(String, String)>), Error> {
        let make = |name: &str| {
            let path = dir.join(name);
            fs::create_dir(&path)
                .map(|()| path.clone())
                .map_err(|source| Error::Io {
                    what: format!("making {}", path.display()),
                    source,
                })
        };
        let (home, temporary, workdir) = (make("home")?, make("tmp")?, dir.join("task"));
        copy::tree(&spec.package, &workdir).map_err(|source| Error::Io {
            what: format!("copying the package {}", spec.package.display()),
            source,
        })?;
        let mut env = spec.env.clone();
        let shown_at = workdir
            .to_str()
            .ok_or_else(|| Error::Host(format!("{} is not UTF-8", workdir.display())))?;
        crate::managed::place_package(&mut env, shown_at);
        crate::env::default(&mut env, "HOME", &home)?;
        crate::env::default(&mut env, "TMPDIR", &temporary)?;
        crate::env::set(&mut env, "PORT", record.real_port.to_string());
        crate::env::listen(&mut env, &spec.listen, record);
        if is_python(&spec.command, &env, &workdir) {
            let shim = make("shim")?;
            let text = SHIM
                .replace("{usual}", &spec.port.to_string())
                .replace("{real}", &record.real_port.to_string());
            let file = shim.join("sitecustomize.py");
            fs::write(&file, text).map_err(|source| Error::Io {
                what: format!("writing {}", file.display()),
                source,
            })?;
            let before = crate::env::get(&env, "PYTHONPATH").filter(|path| !path.is_empty());
            let path = match before {
                Some(path) => format!("{}:{path}", shim.display()),
                None => shim.display().to_string(),
            };
            crate::env::set(&mut env, "PYTHONPATH", path);
        }
        Ok((Mode::Process { workdir }, env))
    }
}

/// Whether a command is a Python interpreter, or a script that names one in its first line.
fn is_python(command: &[String], env: &[(String, String)], workdir: &Path) -> bool {
    let Some(program) = command.first() else { return false };
    let name = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if name.starts_with("python") || name.starts_with("pypy") {
        return true;
    }
    let path = if program.contains('/') {
        Some(workdir.join(program))
    } else {
        let dirs = crate::env::get(env, "PATH").unwrap_or_default().split(':');
        dirs.map(|dir| PathBuf::from(dir).join(program))
            .find(|path| path.is_file())
    };
    path.and_then(|path| first_line(&path))
        .is_some_and(|line| line.starts_with("#!") && line.contains("python"))
}

fn first_line(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut start = Vec::new();
    fs::File::open(path).ok()?.take(256).read_to_end(&mut start).ok()?;
    let end = start.iter().position(|byte| *byte == b'\n').unwrap_or(start.len());
    String::from_utf8(start[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_known_by_its_name_or_by_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tool"), "#!/venv/bin/python3.12\nprint()\n").unwrap();
        fs::write(dir.path().join("agent.sh"), "#!/bin/sh\n# python\n").unwrap();
        let env = [("PATH".to_owned(), format!("/nowhere:{}", dir.path().display()))];
        for (command, wanted) in [
            ("python3", true),
            ("/opt/x/python3.12", true),
            ("./tool", true),
            ("tool", true),
            ("agent.sh", false),
            ("./agent.sh", false),
            ("./missing", false),
            ("node", false),
        ] {
            assert_eq!(is_python(&[command.to_owned()], &env, dir.path()), wanted, "{command}");
        }
    }
}
