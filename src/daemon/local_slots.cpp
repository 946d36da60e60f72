#include "daemon/local_slots.hpp"

#include "codec/sha256.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <sys/stat.h>
#include <vector>

namespace cooper::daemon {

namespace {

constexpr mode_t kPrivate = 0700;
// A slot under way to its end; found again after a crash.
constexpr std::string_view kRemoved = "removed.";
// Builds at once that send the same directory. More is a mistake or an attack.
constexpr int kMaxPerKey = 1000;

struct Locked {
    sys::RootedDir dir;
    sys::FileLock lock;
};
// nullopt when somebody holds it, or took it away between opening and locking: then the name is another's, or nobody's.
Result<std::optional<Locked>> lock_slot(const sys::RootedDir& slots, const std::string& name) {
    auto dir = TRY(slots.open_dir(name));
    auto lock = TRY(sys::FileLock::try_acquire_at(dir.fd(), "lock", sys::LockMode::exclusive));
    if (!lock) return std::optional<Locked>{};
    struct stat locked{};
    if (::fstat(dir.fd(), &locked) != 0) return fail_errno(errno, "directory of a slot");
    const auto named = slots.stat(name, sys::Follow::no);
    if (!named || named->st_ino != locked.st_ino || named->st_dev != locked.st_dev) return std::optional<Locked>{};
    return std::optional<Locked>(Locked{std::move(dir), std::move(*lock)});
}

}  // namespace

Result<std::unique_ptr<LocalSlots>> LocalSlots::open(const std::string& root, const LocalSlotLimits& limits) {
    const sys::RootedDir state = TRY(sys::RootedDir::open_host(root));
    TRY(state.make_dirs("locals", kPrivate));
    auto slots = std::unique_ptr<LocalSlots>(new LocalSlots(root + "/locals", TRY(state.open_dir("locals")), limits));
    TRY(slots->prune(limits, Stop{}));
    return slots;
}

Result<std::unique_ptr<LocalSlot>> LocalSlots::try_slot(const std::string& name) {
    TRY(dir_.make_dirs(name + "/files", kPrivate));
    auto slot = TRY(lock_slot(dir_, name));
    if (!slot) return std::unique_ptr<LocalSlot>{};
    // When it was used last.
    ::futimens(slot->lock.fd(), nullptr);
    auto files = TRY(slot->dir.open_dir("files"));
    return std::make_unique<LocalSlot>(std::move(slot->lock), path_ + "/" + name + "/files", std::move(files));
}

Result<std::unique_ptr<LocalSlot>> LocalSlots::acquire(std::string_view key, const Stop& stop) {
    const std::string hash = codec::sha256_of(key).hex().substr(0, 32);
    for (int number = 0; number < kMaxPerKey; ++number) {
        TRY(check_stop(stop));
        const std::string name = fmt::format("{}.{}", hash, number);
        const bool is_new = !dir_.stat(name, sys::Follow::no).has_value();
        auto slot = try_slot(name);
        // Removed by somebody else's prune() between two steps: the next number is as good.
        if (!slot && slot.error().code() == Code::not_found) continue;
        if (!slot) return slot.error().with_context("directory for a client's files");
        if (*slot == nullptr) continue;
        if (is_new) TRY(prune(limits_, stop));
        return slot;
    }
    return fail(Code::resource_exhausted, Blame::user, "{} builds at once send the same directory", kMaxPerKey);
}

Result<> LocalSlots::charge(std::uint64_t bytes, const Stop& stop) {
    if (!charge_) return {};
    const auto charged = charge_(bytes);
    if (charged || charged.error().code() != Code::resource_exhausted) return charged;
    if (TRY(prune({.max_slots = 0}, stop)) == 0) return charged;
    return charge_(bytes);
}

Result<std::size_t> LocalSlots::prune(const LocalSlotLimits& limits, const Stop& stop) {
    struct Old {
        std::string name;
        std::time_t used = 0;
    };
    std::vector<Old> all;
    const auto entries = TRY(sys::list_dir(dir_.fd()));
    for (const auto& entry : entries) {
        const auto lock = dir_.stat(entry.name + "/lock", sys::Follow::no);
        all.push_back({entry.name, lock ? lock->st_mtime : 0});
    }
    std::sort(all.begin(), all.end(), [](const Old& a, const Old& b) { return a.used > b.used; });
    const std::time_t oldest = std::time(nullptr) - static_cast<std::time_t>(limits.max_age.count());
    std::size_t removed = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        TRY(check_stop(stop));
        const bool half_gone = all[i].name.starts_with(kRemoved);
        if (i < limits.max_slots && all[i].used >= oldest && !half_gone) continue;
        const auto slot = lock_slot(dir_, all[i].name);
        if (!slot || !*slot) continue;
        // Under another name first: a slot of this name can be made anew at once, and never has half of the old files.
        const std::string gone = half_gone ? all[i].name : fmt::format("{}{}", kRemoved, all[i].name);
        if (!half_gone && ::renameat(dir_.fd(), all[i].name.c_str(), dir_.fd(), gone.c_str()) != 0) continue;
        // Somebody who is about to find that it is gone may have made the lock anew meanwhile. The next prune() mends.
        if (!dir_.remove_all(gone)) continue;
        ++removed;
    }
    return removed;
}

}  // namespace cooper::daemon
