//! `cargo xtask cgroup-v2`: the sandbox's tests on a machine that has cgroup v2 only, as every current distribution does.
//!
//! A machine binds each controller to one version for all that runs on it, so one on which v1 is in use cannot test v2,
//! and the other way round. This task boots a virtual one: an unmodified kernel of the distribution in QEMU, with a file
//! system ([`image`], [`cpio`]) made of this machine's own programs and the test binary, whose first process is
//! `guest.sh`. The processor is emulated, because a usable `/dev/kvm` is not to be had everywhere; that takes minutes, and
//! so this is no part of `cargo xtask test`.
//!
//! Invariant: the guest sees no file of this machine but copies, has no network, and is gone when the task ends. A guest
//! that breaks off, or leaves anything behind, is a failure.

mod cpio;
mod image;
mod report;

use crate::{step, workspace};
use anyhow::{Context as _, bail, ensure};
use image::Image;
use report::Report;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The longest that the guest may run.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// What the guest's script and the tests run.
const PROGRAMS: [&str; 18] = [
    "cat", "chmod", "chown", "chroot", "env", "find", "insmod", "mkdir", "mount", "python3", "setpriv", "sh", "sleep",
    "tr", "true", "umount", "uname", "unshare",
];
/// In the order in which they are loaded; a kernel that has one built in has no such file.
const MODULES: [&str; 12] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
    "lib/crc16.ko",
    "crypto/crc32c_generic.ko",
    "fs/mbcache.ko",
    "fs/jbd2/jbd2.ko",
    "fs/ext4/ext4.ko",
    "fs/overlayfs/overlay.ko",
];
/// How distributions compress modules.
const COMPRESSIONS: [&str; 4] = ["", ".xz", ".zst", ".gz"];

/// Which tests, and on which kernel.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A directory with boot/vmlinuz-* and lib/modules: an unpacked kernel package, if none is installed.
    #[arg(long, default_value = "/")]
    kernel: PathBuf,
    /// QEMU's accelerator; `kvm` is quick where it works, `tcg` works everywhere.
    #[arg(long, default_value = "tcg")]
    accelerator: String,
    /// Only tests with these words in their names, at every place.
    filters: Vec<String>,
}

/// Builds the guest, boots it, and sums up.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let tools = Tools::find(&options.kernel)?;
    let dir = workspace::target_directory()?.join("cgroup-v2");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let tests = step::timed("the sandbox's tests", build)?;
    let guest = step::timed("a guest to run them", || tools.guest(&dir, &tests))?;
    let mut report = Report::default();
    let ended = step::timed(&format!("{} in QEMU", tools.kernel.version), || {
        step::follow(&mut tools.boot(&guest, options), DEADLINE, |line| {
            if report.read(line) {
                println!("{line}");
            }
        })
    });
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => report.trouble(format!("QEMU ended with {status}; its last lines say why")),
        Err(error) => report.trouble(format!("{error:#}")),
    }
    print!("{}", report.sum());
    ensure!(report.passed(), "not everything holds on cgroup v2");
    Ok(())
}

/// What this machine must have.
struct Tools {
    qemu: PathBuf,
    mke2fs: PathBuf,
    programs: Vec<PathBuf>,
    kernel: Kernel,
}

struct Kernel {
    version: String,
    image: PathBuf,
    modules: PathBuf,
}

/// The files that QEMU is given.
struct Guest {
    archive: PathBuf,
    disk: PathBuf,
}

impl Tools {
    /// Names everything that is missing, not only the first.
    fn find(kernel: &Path) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        let mut need = |name: &str| {
            program(name).unwrap_or_else(|| {
                missing.push(format!("{name} (Debian: {})", package(name)));
                PathBuf::new()
            })
        };
        let (qemu, mke2fs) = (need("qemu-system-x86_64"), need("mke2fs"));
        let programs = PROGRAMS.iter().map(|name| need(name)).collect();
        let kernel = match Kernel::newest(kernel) {
            Ok(kernel) => Some(kernel),
            Err(error) => {
                missing.push(format!(
                    "a kernel (Debian: linux-image-cloud-amd64; or without installing it, `apt-get download` the \
                     linux-image-…-cloud-amd64 that it depends on, `dpkg-deb -x` that into a directory, and name the \
                     directory with --kernel): {error:#}"
                ));
                None
            }
        };
        let Some(kernel) = kernel.filter(|_| missing.is_empty()) else {
            bail!("this is needed and not here:\n  {}", missing.join("\n  "));
        };
        Ok(Self {
            qemu,
            mke2fs,
            programs,
            kernel,
        })
    }

    /// Makes the guest's file system, and a disk for what the tests write: a file system in memory cannot map ids on all
    /// kernels, and servers have theirs on disks.
    fn guest(&self, dir: &Path, tests: &Path) -> anyhow::Result<Guest> {
        let mut image = Image::default();
        for path in ["/dev", "/proc", "/sys", "/run", "/tmp", "/new", "/modules"] {
            image.directory(path);
        }
        image.text("/init", include_str!("guest.sh"));
        image.place("/tests", tests);
        image.libraries(tests)?;
        for program in &self.programs {
            image.program(program)?;
        }
        for dir in python_directories()? {
            image.tree(&dir, &|name| {
                !matches!(name, "test" | "tests" | "idlelib" | "dist-packages")
            })?;
        }
        for name in ["/etc/ld.so.cache", "/etc/alternatives"] {
            let path = Path::new(name);
            match fs::metadata(path) {
                Ok(data) if data.is_dir() => image.directory(name),
                Ok(_) => drop(image.add(path)?),
                Err(_) => {}
            }
        }
        for (number, module) in MODULES.iter().enumerate() {
            let path = |compression| self.kernel.modules.join(format!("kernel/{module}{compression}"));
            if let Some(found) = COMPRESSIONS.iter().map(path).find(|path| path.exists()) {
                let name = found.file_name().unwrap_or_default().to_string_lossy().into_owned();
                image.place(format!("/modules/{number:02}-{name}"), found);
            }
        }
        let guest = Guest {
            archive: dir.join("guest.cpio"),
            disk: dir.join("disk.img"),
        };
        let write = || -> anyhow::Result<()> {
            let mut archive = BufWriter::new(File::create(&guest.archive)?);
            cpio::write(&image, &mut archive)?;
            Ok(archive.flush()?)
        };
        write().with_context(|| guest.archive.display().to_string())?;
        let mut disk = Command::new(&self.mke2fs);
        disk.args(["-q", "-F", "-t", "ext4"]).arg(&guest.disk).arg("1G");
        step::run(&mut disk)?;
        Ok(guest)
    }

    fn boot(&self, guest: &Guest, options: &Options) -> Command {
        let mut qemu = Command::new(&self.qemu);
        qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.args(["-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "2048"]);
        qemu.arg("-accel").arg(&options.accelerator);
        qemu.arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&guest.archive);
        // What the guest writes is forgotten.
        let disk = format!("file={},format=raw,if=virtio,snapshot=on", guest.disk.display());
        qemu.arg("-drive").arg(disk);
        let mut line = format!(
            "console=ttyS0 quiet panic=-1 rdinit=/init cgroup_no_v1=all SECONDS_AT_MOST={}",
            DEADLINE.as_secs()
        );
        if !options.filters.is_empty() {
            // The kernel hands variables of this form on to its first process.
            line.push_str(&format!(" \"FILTER={}\"", options.filters.join(" ")));
        }
        qemu.arg("-append").arg(line);
        qemu
    }
}

impl Kernel {
    /// The newest of a root directory that has its modules there too.
    fn newest(root: &Path) -> anyhow::Result<Self> {
        let boot = root.join("boot");
        let mut found: Vec<Self> = fs::read_dir(&boot)
            .with_context(|| boot.display().to_string())?
            .filter_map(|entry| {
                let image = entry.ok()?.path();
                let version = image.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
                let modules = [root.join("lib/modules"), root.join("usr/lib/modules")];
                let modules = modules
                    .map(|dir| dir.join(&version))
                    .into_iter()
                    .find(|dir| dir.is_dir())?;
                Some(Self {
                    version,
                    image,
                    modules,
                })
            })
            .collect();
        found.sort_by_key(|kernel| numbers(&kernel.version));
        let kernel = found
            .pop()
            .with_context(|| format!("there is no vmlinuz-* with its modules in {}", boot.display()))?;
        File::open(&kernel.image).with_context(|| format!("{} cannot be read", kernel.image.display()))?;
        Ok(kernel)
    }
}

/// `6.12.9-2` is newer than `6.2.10-1`.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Where a program is; system programs are not on every user's `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    // The tests' users find the system's interpreter only, and others may be scripts.
    let system = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = system.into_iter().chain(std::env::split_paths(&path));
    dirs.find_map(|dir| Some(dir.join(name)).filter(|path| path.is_file()))
}

/// The Debian package of a program.
fn package(program: &str) -> &'static str {
    match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "mke2fs" => "e2fsprogs",
        "insmod" => "kmod",
        "mount" | "umount" => "mount",
        "setpriv" | "unshare" => "util-linux",
        "find" => "findutils",
        "ldd" => "libc-bin",
        "python3" => "python3",
        "sh" => "dash",
        _ => "coreutils",
    }
}

/// Where the system's interpreter has its library.
fn python_directories() -> anyhow::Result<Vec<PathBuf>> {
    let python = program("python3").context("python3 is not here")?;
    let code = "import sysconfig; p = sysconfig.get_paths(); print(p['stdlib']); print(p['platstdlib'])";
    let output = Command::new(&python)
        .args(["-I", "-c", code])
        .output()
        .with_context(|| python.display().to_string())?;
    let mut dirs: Vec<PathBuf> = String::from_utf8(output.stdout)?.lines().map(PathBuf::from).collect();
    dirs.dedup();
    ensure!(
        !dirs.is_empty(),
        "{} does not say where its library is",
        python.display()
    );
    Ok(dirs)
}

/// Builds the sandbox's test program; where it is.
fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--package", "eyot-sandbox", "--lib", "--locked", "--no-run"]);
    let output = cargo
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    ensure!(output.status.success(), "the tests cannot be built: {}", output.status);
    let messages = String::from_utf8(output.stdout)?;
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let test = message["profile"]["test"].as_bool()?;
        let path = message["executable"].as_str()?;
        test.then(|| PathBuf::from(path))
    };
    messages
        .lines()
        .find_map(executable)
        .context("cargo did not say where the tests are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_with_modules_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(Kernel::newest(root).is_err());
        fs::create_dir(root.join("boot")).unwrap();
        for (version, modules) in [("6.2.10-1", true), ("6.12.9-2-cloud", true), ("7.0.0", false)] {
            fs::write(root.join(format!("boot/vmlinuz-{version}")), "").unwrap();
            if modules {
                fs::create_dir_all(root.join("lib/modules").join(version)).unwrap();
            }
        }
        assert_eq!(Kernel::newest(root).unwrap().version, "6.12.9-2-cloud");
    }
}
