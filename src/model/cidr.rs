use std::fmt;

use ipnet::Ipv4Net;

use super::{Invalid, Scalar, scalar_traits};

/// An IPv4 network in CIDR notation, written with its network address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(Ipv4Net);

impl Scalar for Cidr {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let net: Ipv4Net = text.parse().map_err(|_| {
            Invalid::new(format!("{text:?} is not an IPv4 network"), "not a CIDR block")
                .hint("write an address and a prefix length, for example 10.0.0.0/16")
        })?;
        if net.addr() != net.network() {
            return Err(Invalid::new(
                format!("{text} has bits set behind its prefix"),
                "not a network address",
            )
            .hint(format!("write {}", net.trunc())));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

scalar_traits!(Cidr, "Cidr", { "type": "string", "pattern": "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$" });

/// The address range of a VPC: a private /16 to /20, so that three availability zones each get a public, a private and
/// an intra subnet that AWS accepts.
///
/// AWS takes /16 to /28 for a VPC and recommends RFC 1918 space
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html>). EKS needs room for one address a pod; below
/// /20 a private subnet has fewer than 512.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VpcCidr(Cidr);

impl VpcCidr {
    /// The default range, 10.0.0.0/16.
    pub const DEFAULT: &'static str = "10.0.0.0/16";
}

impl Scalar for VpcCidr {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let cidr = Cidr::parse(text)?;
        let prefix = cidr.0.prefix_len();
        if prefix < 16 {
            return Err(Invalid::new(
                format!("a VPC cannot be larger than a /16, and {text} is a /{prefix}"),
                "too large",
            )
            .hint("choose a /16 to /20, for example 10.0.0.0/16"));
        }
        if prefix > 20 {
            return Err(Invalid::new(
                format!("{text} is too small for nine subnets over three availability zones"),
                "too small",
            )
            .hint("choose a /16 to /20, for example 10.0.0.0/16"));
        }
        let shared_address_space = Ipv4Net::new_assert(std::net::Ipv4Addr::new(100, 64, 0, 0), 10);
        if !cidr.0.network().is_private() && !shared_address_space.contains(&cidr.0) {
            return Err(Invalid::new(
                format!("{text} is not private address space"),
                "routable on the internet",
            )
            .hint("choose from 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10"));
        }
        let docker = Ipv4Net::new_assert(std::net::Ipv4Addr::new(172, 17, 0, 0), 16);
        if docker.contains(&cidr.0) {
            return Err(Invalid::new(
                format!("{text} lies in 172.17.0.0/16, which services on AWS use for container bridges"),
                "conflicts with 172.17.0.0/16",
            )
            .hint("choose another private range, for example 10.0.0.0/16"));
        }
        Ok(Self(cidr))
    }
}

impl fmt::Display for VpcCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

scalar_traits!(VpcCidr, "VpcCidr", { "type": "string", "pattern": "^([0-9]{1,3}\\.){3}[0-9]{1,3}/(16|17|18|19|20)$" });
