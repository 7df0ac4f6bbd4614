//! What a version asks for beyond running its agent: a warm-up hook and file systems. From the request to what is kept,
//! and back.

use super::record::{Hook, Settings};
use super::settings::{REFUSED_PORT, field, unsupported};
use api::control as wire;
use domain::error::FieldError;

const FILESYSTEMS: &str = "filesystemConfigurations";
const WARMUP: &str = "hooksConfiguration.build.warmup.action.httpPost";

/// The warm-up hook, if there is one.
pub(super) fn warmup(given: Option<wire::RuntimeHooksConfiguration>, wrong: &mut Vec<FieldError>) -> Option<Hook> {
    let hook = given?.build?.warmup?;
    let wire::LifecycleHookAction::HttpPost(post) = hook.action;
    let port = post.port.and_then(|port| u16::try_from(port).ok());
    if port.is_none() && post.port.is_some() {
        wrong.push(field(&format!("{WARMUP}.port"), "is no port number"));
    }
    if port == Some(REFUSED_PORT) {
        let message = format!("cannot be {REFUSED_PORT}: use another port from 8000 to 12000");
        wrong.push(field(&format!("{WARMUP}.port"), message));
    }
    Some(Hook { path: post.path, port })
}

/// Where session storage is mounted, if there is any. `can_store` is whether the driver has it on this host.
pub(super) fn storage(
    given: Option<Vec<wire::FilesystemConfiguration>>,
    can_store: bool,
    wrong: &mut Vec<FieldError>,
) -> Option<String> {
    let mut mount = None;
    for (index, filesystem) in given.into_iter().flatten().enumerate() {
        let of = |kind: &str| format!("{FILESYSTEMS}[{index}].{kind}");
        let other = |kind: &str| unsupported(&of(kind), "use sessionStorage, which Eyot keeps itself");
        match filesystem {
            wire::FilesystemConfiguration::SessionStorage(storage) => {
                if mount.is_some() {
                    wrong.push(field(
                        &of("sessionStorage"),
                        "is there twice: a session has one storage",
                    ));
                }
                // The model's pattern lets these through.
                if matches!(name(&storage.mount_path), "." | "..") {
                    let message = "must be one directory below /mnt, such as /mnt/data";
                    wrong.push(field(&of("sessionStorage.mountPath"), message));
                }
                if !can_store {
                    let message = "cannot be had on this server: it needs the container driver as root, loop devices and \
                                   e2fsprogs; the server's warnings at its start say what is missing";
                    wrong.push(field(&of("sessionStorage"), message));
                }
                mount = Some(storage.mount_path);
            }
            wire::FilesystemConfiguration::S3FilesAccessPoint(_) => wrong.push(other("s3FilesAccessPoint")),
            wire::FilesystemConfiguration::EfsAccessPoint(_) => wrong.push(other("efsAccessPoint")),
            wire::FilesystemConfiguration::CapacityProviderVolume(_) => wrong.push(other("capacityProviderVolume")),
        }
    }
    mount
}

/// A mount path as the sandbox gets it: `/mnt/data/` is `/mnt/data`.
pub(super) fn mount_path(said: &str) -> String {
    format!("/mnt/{}", name(said))
}

fn name(mount_path: &str) -> &str {
    mount_path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// As `GetAgentRuntime` shows the hook.
pub(super) fn show_hooks(settings: &Settings) -> Option<wire::RuntimeHooksConfiguration> {
    let hook = settings.warmup.as_ref()?;
    let action = wire::LifecycleHookAction::HttpPost(wire::HttpPostLifecycleHookAction {
        path: hook.path.clone(),
        port: hook.port.map(i32::from),
    });
    Some(wire::RuntimeHooksConfiguration {
        build: Some(wire::BuildLifecycleHooks {
            warmup: Some(wire::LifecycleHook { action }),
        }),
    })
}

/// As `GetAgentRuntime` shows the storage.
pub(super) fn show_filesystems(settings: &Settings) -> Option<Vec<wire::FilesystemConfiguration>> {
    let mount_path = settings.storage.clone()?;
    let storage = wire::SessionStorageConfiguration { mount_path };
    Some(vec![wire::FilesystemConfiguration::SessionStorage(storage)])
}
