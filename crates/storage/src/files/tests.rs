//! [`FileBlobs`] passes the contract; and what only files can get wrong.

use super::*;
use crate::contract::Fresh;
use bytes::Bytes;

fn fresh() -> Fresh<dyn Blobs> {
    let dir = tempfile::tempdir().unwrap();
    Fresh::new(Arc::new(FileBlobs::open(dir.path()).unwrap()), dir)
}

mod contract {
    crate::blobs_contract!(super::fresh);
}

#[tokio::test]
async fn an_upload_leaves_no_file_behind_however_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FileBlobs::open(dir.path()).unwrap();
    let files = || entries(&dir.path().join("temporary")).unwrap().len();

    let upload = blobs.upload("a").await.unwrap();
    assert_eq!(files(), 1);
    drop(upload);
    assert_eq!(files(), 0);

    let mut upload = blobs.upload("a").await.unwrap();
    upload.write(Bytes::from_static(b"x")).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn opening_clears_what_a_crash_left() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FileBlobs::open(dir.path()).unwrap();
    let mut upload = blobs.upload("a").await.unwrap();
    upload.write(Bytes::from(vec![0; 2 << 20])).await.unwrap();
    std::mem::forget(upload);
    let leftover = entries(&dir.path().join("temporary")).unwrap();
    assert_eq!(leftover.len(), 1);
    assert!(leftover[0].metadata().unwrap().len() > 0);

    drop(blobs);
    let blobs = FileBlobs::open(dir.path()).unwrap();
    assert_eq!(entries(&dir.path().join("temporary")).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(blobs.list("", None, 10).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_deletion_removes_folders_that_hold_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FileBlobs::open(dir.path()).unwrap();
    for key in ["a/b/c", "a/d"] {
        blobs.upload(key).await.unwrap().finish().await.unwrap();
    }
    blobs.delete("a/b/c").await.unwrap();
    assert_eq!(entries(&dir.path().join("objects/a+")).unwrap().len(), 1);
    blobs.delete("a/d").await.unwrap();
    assert_eq!(entries(&dir.path().join("objects")).unwrap().len(), 0);
}

#[tokio::test]
async fn a_cancelled_write_ends_the_upload() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = FileBlobs::open(dir.path()).unwrap();
    let mut upload = blobs.upload("a").await.unwrap();
    {
        let write = upload.write(Bytes::from(vec![0; 8 << 20]));
        let cancelled = tokio::time::timeout(std::time::Duration::ZERO, write).await;
        assert!(
            cancelled.is_err(),
            "the first poll cannot have the answer of another thread"
        );
    }
    assert!(matches!(
        upload.write(Bytes::from_static(b"x")).await,
        Err(Error::Closed)
    ));
    assert!(matches!(upload.finish().await, Err(Error::Closed)));
    assert!(blobs.open("a").await.unwrap().is_none());
}
