//! rustls, with the certificate of a server.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificate(directory: &Path) -> Result<CertificateDer<'static>> {
    let path = directory.join("certificate");
    CertificateDer::from_pem_file(path).map_err(|error| anyhow!("the certificate: {error}"))
}

/// A server with what is in a directory.
pub(crate) fn server(directory: &Path, protocol: &str) -> Result<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(directory.join("key"))
        .map_err(|error| anyhow!("the key: {error}"))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate(directory)?], key)?;
    config.alpn_protocols = vec![protocol.into()];
    Ok(config)
}

/// A client that trusts it. A long hello has more than a packet of protocols, and so, as one with
/// post-quantum keys, its name in any of several.
pub(crate) fn client(directory: &Path, protocol: &str, is_long: bool) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(directory)?)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let more = if is_long { 100 } else { 0 };
    let more = (0..more).map(|nth| format!("protocol-{nth}").into_bytes());
    config.alpn_protocols = [protocol.into()].into_iter().chain(more).collect();
    Ok(config)
}
