//! Which driver this host can run, proven by starting something in it.

use crate::container::Container;
use crate::process::Process;
use crate::supervised::Standing;
use crate::{Config, Driver, Error, Limits, Probe, Sandbox, Spec, State};
use domain::id::SandboxId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the trial may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which driver to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The strongest that this host can run.
    Auto,
    /// This one or none.
    Container,
    /// This one, which does not isolate.
    Process,
}

/// Gives a driver that has been proven to work here. With [`Wanted::Auto`] the probe's warnings say why a stronger one
/// than the one given was not possible.
pub async fn detect(config: Config, wanted: Wanted) -> Result<(Arc<dyn Driver>, Probe), Error> {
    let mut reason = None;
    if wanted != Wanted::Process {
        let driver = Container::new(config.clone())?;
        match driver.probe().await {
            Ok(probe) => return Ok((Arc::new(driver), probe)),
            Err(error) if wanted == Wanted::Container => return Err(error),
            Err(error) => reason = Some(format!("the driver 'container' cannot be used here: {error}")),
        }
    }
    let driver = Process::new(config)?;
    let mut probe = driver.probe().await?;
    probe.warnings.extend(reason);
    Ok((Arc::new(driver), probe))
}

/// Starts `true` and looks whether it ends well.
pub(crate) async fn trial<F>(state_dir: &Path, start: impl FnOnce(Spec) -> F) -> Result<Standing, Error>
where
    F: Future<Output = Result<(Arc<dyn Sandbox>, Standing), Error>>,
{
    let package = state_dir.join(".trial");
    std::fs::create_dir_all(&package).map_err(|source| Error::Io {
        what: format!("making {}", package.display()),
        source,
    })?;
    let spec = Spec {
        id: SandboxId::generate(),
        labels: BTreeMap::new(),
        package,
        read_only: Vec::new(),
        command: vec!["true".into()],
        env: Vec::new(),
        port: 8080,
        listen: Vec::new(),
        limits: Limits {
            memory: 64 << 20,
            pids: 16,
            cpu_millis: 1000,
            scratch: 1 << 20,
            log: 64 << 10,
        },
        storage: None,
        orphan_after: PATIENCE,
    };
    let (sandbox, standing) = start(spec).await?;
    let mut state = sandbox.state();
    let ended = tokio::time::timeout(PATIENCE, state.wait_for(|state| matches!(state, State::Exited(_))))
        .await
        .is_ok();
    let exit = sandbox.stop(Duration::ZERO).await?;
    if !ended || exit.code != Some(0) {
        return Err(Error::Host(format!(
            "the trial program `true` did not end well: {exit:?}"
        )));
    }
    Ok(standing)
}
