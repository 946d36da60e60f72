// Packages as package managers note them. Each parser reads one kind of file, whoever wrote it: what cannot be read is
// left out, what is too much is cut. Pure, any thread.
#pragma once

#include "base/result.hpp"

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::attest {

inline constexpr std::size_t kMaxPackages = 200'000;  // of one image
inline constexpr std::size_t kMaxField = 4096;        // longer fields are cut

// Of /etc/os-release.
struct OsRelease {
    std::string id;       // "debian"
    std::string version;  // "12"
};
[[nodiscard]] OsRelease parse_os_release(std::string_view text);

struct Package {
    std::string type;   // of the package URL: deb, apk, rpm, pypi, npm, golang, gem, maven, cargo, nuget, composer
    std::string space;  // namespace there: "debian", "@scope", "org.apache.logging"
    std::string name;
    std::string version;
    std::string architecture;
    std::string license;  // as it was written
    std::string distro;   // "debian-12"
    std::string path;     // of the file that says so, from the root
    // Which of the image's layers brought it, bottom first; nullopt where that is not known.
    std::optional<std::size_t> layer;
    friend auto operator<=>(const Package&, const Package&) = default;
};
[[nodiscard]] std::string purl_of(const Package& package);

// /var/lib/dpkg/status, or one file of status.d: those that are installed.
[[nodiscard]] std::vector<Package> parse_dpkg(std::string_view text, const OsRelease& os);
// /lib/apk/db/installed
[[nodiscard]] std::vector<Package> parse_apk(std::string_view text, const OsRelease& os);
// Headers of an RPM database, each a blob. nullopt: none, or one without a name ("gpg-pubkey" is left out, too).
[[nodiscard]] std::optional<Package> parse_rpm_header(std::string_view blob, const OsRelease& os);
// Packages.db ("ndb")
[[nodiscard]] std::vector<Package> parse_rpm_ndb(std::string_view file, const OsRelease& os);
// rpmdb.sqlite: the bytes of the file.
[[nodiscard]] std::vector<Package> parse_rpm_sqlite(std::string_view file, const OsRelease& os);
// "Packages": a hash table of Berkeley DB, of either byte order.
[[nodiscard]] std::vector<Package> parse_rpm_bdb(std::string_view file, const OsRelease& os);
// METADATA of a dist-info, PKG-INFO of an egg-info.
[[nodiscard]] std::optional<Package> parse_python(std::string_view text);
// package.json below node_modules
[[nodiscard]] std::optional<Package> parse_npm(std::string_view text);
// NAME-VERSION.gemspec of an installed gem; file_name without folders.
[[nodiscard]] std::optional<Package> parse_gem(std::string_view text, std::string_view file_name);
// What Go's linker says of a program: "path\t…\nmod\t…\ndep\t…".
[[nodiscard]] std::vector<Package> parse_go_modules(std::string_view text);
// That text and the version of Go, out of an ELF program; nullopt: no program of Go's. Files are read in pieces, at
// most 64 MiB of them.
struct GoBuild {
    std::string version;  // "go1.22.1"
    std::string modules;
};
[[nodiscard]] std::optional<GoBuild> read_go_build(int file);
// NAME.deps.json beside a program of .NET
[[nodiscard]] std::vector<Package> parse_dotnet_deps(std::string_view text);
// vendor/composer/installed.json
[[nodiscard]] std::vector<Package> parse_composer(std::string_view text);
// What `cargo auditable` leaves in a program, unpacked; "" when it left nothing. At most 16 MiB.
[[nodiscard]] std::string read_rust_build(int file);
[[nodiscard]] std::vector<Package> parse_rust_crates(std::string_view text);
// By the name alone: "x.jar", "x.war", …
[[nodiscard]] bool is_java_archive(std::string_view name);
// Of an archive of Java's and the archives in it; path is what it is called. budget says how many bytes may be read and
// unpacked still, and counts down.
[[nodiscard]] std::vector<Package> read_java_archive(int file, std::uint64_t size, std::string_view path,
                                                     std::uint64_t& budget);
// Licenses of a machine-readable /usr/share/doc/NAME/copyright, joined by " AND ".
[[nodiscard]] std::string parse_debian_copyright(std::string_view text);

}  // namespace cooper::attest
