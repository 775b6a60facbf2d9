# Mirrors chosen traffic into GUE tunnels.
#
# @param config
#   The content of /etc/mirror.toml, such as epp('profile/mirror.toml.epp'). Where it has a seed, Sensitive(epp(...)): neither
#   the run nor its report shows it then.
# @param package
#   Name of the package.
# @param ensure
#   Version of the package, or 'installed', or 'latest'.
# @param mode
#   Mode of the file; '0600' where it has a seed.
# @param timeout
#   Seconds until the file has to be live; the run fails after that.
# @param healthy
#   false: the run ends well as soon as the file is live, even if an endpoint cannot be reached yet.
class traffic_mirror (
  Variant[String[1], Sensitive[String[1]]] $config,
  String[1]  $package = 'traffic-mirror',
  String[1]  $ensure  = 'installed',
  String[1]  $mode    = '0644',
  Integer[1] $timeout = 30,
  Boolean    $healthy = true,
) {
  package { $package:
    ensure => $ensure,
  }

  # an invalid file is not installed, and what is live goes on
  file { '/etc/mirror.toml':
    ensure       => file,
    owner        => 'root',
    group        => 'root',
    mode         => $mode,
    content      => $config,
    validate_cmd => '/usr/sbin/traffic-mirror check %',
    require      => Package[$package],
  }

  service { 'traffic-mirror':
    ensure  => running,
    enable  => true,
    require => File['/etc/mirror.toml'],
  }

  # the daemon loads a saved file by itself; the run fails if it does not
  $health = $healthy ? { true => ' --healthy', default => '' }
  exec { 'traffic-mirror has loaded the file':
    command => "/usr/sbin/traffic-mirror wait --timeout ${timeout}${health}",
    unless  => "/usr/sbin/traffic-mirror wait --timeout 0${health}",
    require => Service['traffic-mirror'],
  }
}
