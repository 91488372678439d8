//! Certificates in files, for programs that are given paths.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

/// An authority, a server's certificate from it and one of a client's, in a folder of their own.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// What the server is called, beside its address 127.0.0.1.
    pub const NAME: &str = "localhost";

    pub fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("authority.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        issue(&issuer, folder.path(), "server", &[Self::NAME, "127.0.0.1"]);
        issue(&issuer, folder.path(), "client", &["client.test"]);
        Certificates { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> String {
        self.path("authority.pem")
    }

    /// The certificate of the server, and its key.
    pub fn server(&self) -> [String; 2] {
        ["server.pem", "server.key"].map(|name| self.path(name))
    }

    /// The certificate of a client, and its key.
    pub fn client(&self) -> [String; 2] {
        [self.path("client.pem"), self.path("client.key")]
    }

    /// What the table of a listener that speaks TLS says of the server's certificate.
    pub fn table(&self) -> String {
        let [cert, key] = self.server();
        format!("tls_cert = \"{cert}\"\ntls_key = \"{key}\"\n")
    }

    /// Of clients without a certificate, who trust the authority.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.authority()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// Of a server that asks nobody for a certificate.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let [cert, key] = self.server();
        let chain = CertificateDer::pem_file_iter(cert).unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let config = builder.with_single_cert(chain.map(Result::unwrap).collect(), key);
        Arc::new(config.unwrap())
    }

    /// The arguments of a drainline that listens with the server's certificate.
    pub fn listening(&self, address: &str) -> [String; 6] {
        [
            "--listen".to_owned(),
            format!("tls://{address}"),
            "--tls-cert".to_owned(),
            self.path("server.pem"),
            "--tls-key".to_owned(),
            self.path("server.key"),
        ]
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, folder: &Path, file: &str, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    // Some clients look nowhere else.
    let name = rcgen::DnType::CommonName;
    params.distinguished_name.push(name, names[0].clone());
    let certificate = params.signed_by(&key, issuer).unwrap();
    fs::write(folder.join(format!("{file}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}
