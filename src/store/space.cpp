#include "store/space.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "sys/file_lock.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <map>
#include <sched.h>
#include <set>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <utility>

namespace cooper::store {

namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr auto kTick = std::chrono::milliseconds(4);           // of the keeper
constexpr auto kLookAtLeast = std::chrono::milliseconds(200);  // between two measurements while somebody is watched
constexpr int kShareOfTime = 4;                      // between two measurements passes so often what one takes
constexpr auto kTimeToGo = std::chrono::seconds(5);  // for the files of who was stopped
constexpr auto kBetweenEvictions = std::chrono::milliseconds(200);
// Of the guard: as long as the fastest writers need for the room there is.
constexpr std::chrono::nanoseconds kShortestTick = std::chrono::milliseconds(1);
constexpr std::chrono::nanoseconds kLongestTick = std::chrono::milliseconds(50);
constexpr auto kLongestLook = std::chrono::milliseconds(5);
constexpr int kShareOfLooks = 8;
constexpr std::uint64_t kFastestBytesPerNs = 4;

// Of this thread: what takes long because others run meanwhile takes no longer.
std::chrono::nanoseconds processor_time() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

std::uint64_t disk_bytes(const std::string& host_path) {
    const sys::Fd top(::open(host_path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat st{};
    if (!top.valid() || ::fstat(top.get(), &st) != 0) return 0;
    const dev_t device = st.st_dev;
    std::uint64_t blocks = static_cast<std::uint64_t>(st.st_blocks);
    if (!S_ISDIR(st.st_mode)) return blocks * 512;
    std::set<ino_t> seen;
    // A directory at a time, by paths relative to the top: few descriptors, however wide or deep it is.
    std::vector<std::string> pending = {"."};
    while (!pending.empty()) {
        const std::string path = std::move(pending.back());
        pending.pop_back();
        const sys::Fd dir(::openat(top.get(), path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!dir.valid()) continue;
        const auto entries = sys::list_dir(dir.get());
        if (!entries) continue;
        for (const auto& entry : *entries) {
            if (::fstatat(dir.get(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_dev != device)
                continue;
            if (S_ISDIR(st.st_mode)) {
                blocks += static_cast<std::uint64_t>(st.st_blocks);
                if (path.size() < 3000) pending.push_back(path + "/" + entry.name);
            } else if (st.st_nlink == 1 || seen.insert(st.st_ino).second) {
                blocks += static_cast<std::uint64_t>(st.st_blocks);
            }
        }
    }
    return blocks * 512;
}

// In the file "space", mapped by every process. A process that dies leaves its charges behind; the next measurement
// takes the place of all of them.
struct Space::Page {
    std::atomic<std::uint64_t> charged;  // by all, ever
    std::atomic<std::int64_t> base;      // used = base + charged
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

std::uint64_t Space::margin_of(std::uint64_t max_bytes) {
    return std::clamp<std::uint64_t>(max_bytes / 6, std::min<std::uint64_t>(4ULL << 20U, max_bytes / 2), 256ULL << 20U);
}

Result<> Space::set_limit(Limit limit) {
    const sys::Fd file(::open((root_ + "/space").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid()) return fail_errno(errno, "open " + root_ + "/space");
    if (::ftruncate(file.get(), sizeof(Page)) != 0) return fail_errno(errno, root_ + "/space");
    void* page = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (page == MAP_FAILED) return fail_errno(errno, "map " + root_ + "/space");
    page_ = static_cast<Page*>(page);
    dir_ = sys::Fd(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir_.valid()) return fail_errno(errno, root_);
    limit_ = std::move(limit);
    TRY(measure(limit_.measure));
    guard_ = std::jthread([this](const Stop& stop) { guard(stop); });
    keeper_ = std::jthread([this](const Stop& stop) { keep(stop); });
    return {};
}

void Space::remove_limit() {
    for (std::jthread* thread : {&guard_, &keeper_}) {
        thread->request_stop();
        if (thread->joinable()) thread->join();
    }
    limit_ = Limit{};
}

Space::~Space() {
    remove_limit();
    if (page_ != nullptr) ::munmap(page_, sizeof(Page));
}

std::uint64_t Space::used() const {
    const std::int64_t used = page_->base.load() + static_cast<std::int64_t>(page_->charged.load());
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, used));
}

std::uint64_t Space::free_bytes() const {
    struct statvfs disk{};
    if (::fstatvfs(dir_.get(), &disk) != 0) return 0;
    return std::uint64_t{disk.f_bfree} * disk.f_frsize;
}

Result<std::uint64_t> Space::measure(const std::function<Result<std::uint64_t>()>& how) {
    Measured measured{.at = SteadyClock::now(), .free_bytes = free_bytes(), .charged = page_->charged.load()};
    std::map<const Watch*, std::uint64_t> seen;
    for (auto watches = watches_.lock(); const Watch* watch : *watches) seen[watch] = watch->bytes();
    measured.used = TRY(how());
    measured.took = SteadyClock::now() - measured.at;
    // What was charged or written meanwhile may have been seen already: counted twice rather than not at all.
    auto watches = watches_.lock();
    page_->base.store(static_cast<std::int64_t>(measured.used) - static_cast<std::int64_t>(measured.charged));
    for (Watch* watch : *watches) watch->seen_.at_measure = seen[watch];
    *measured_.lock() = measured;
    return measured.used;
}

Result<bool> Space::make_room(std::uint64_t bytes) {
    const std::lock_guard lock(making_room_);
    const auto among_processes =
        TRY(sys::FileLock::acquire_at(dir_.get(), "locks/space", sys::LockMode::exclusive, Stop{}));
    if (used() + bytes <= limit()) return true;
    if (TRY(measure(limit_.measure)) + bytes <= limit()) return true;
    // A little more than is needed, so that not every write has to ask.
    const auto excess = [&](std::uint64_t used) { return used + bytes - limit() + limit_.max_bytes / 32; };
    TRY(limit_.evict(excess(used())));
    if (TRY(measure(limit_.measure)) + bytes <= limit()) return true;
    // Files that several layers share were counted for each of them.
    return TRY(measure(limit_.measure_all)) + bytes <= limit();
}

Error Space::refusal(std::string_view what, std::uint64_t bytes) const {
    const std::uint64_t margin = margin_of(limit_.max_bytes);
    std::string need;
    if (bytes > 0) need = fmt::format(" and {} more are needed", human_size(bytes));
    return fail(Code::resource_exhausted, Blame::user,
                "no space for {}: {} may take {} (max-disk, of which {} stay free for steps that run), {} are "
                "taken{}, and nothing more can be removed: {}",
                what, root_, human_size(limit_.max_bytes), human_size(margin), human_size(used()), need,
                limit_.describe())
        .with_hint(
            "raise max-disk, remove images (cooper rmi) or wait for other builds; cooper du --why-kept says "
            "what holds each record");
}

Result<> Space::charge(std::uint64_t bytes, std::string_view what) {
    if (!limited()) return {};
    page_->charged.fetch_add(bytes);
    if (used() <= limit()) return {};
    page_->charged.fetch_sub(bytes);
    if (!TRY(make_room(bytes))) return refusal(what, bytes);
    page_->charged.fetch_add(bytes);
    return {};
}

// Watching.

Space::Watch::Watch(Space& space, std::string what, std::vector<std::string> places, const Stop& outer)
    : space_(space),
      what_(std::move(what)),
      places_(std::move(places)),
      outer_(outer, [this] { source_.request_stop(); }) {}

Space::Watch::~Watch() {
    if (refused()) space_.leaving_.lock()->push_back({std::move(places_), SteadyClock::now() + kTimeToGo});
    std::erase(*space_.watches_.lock(), this);
    space_.watches_.notify_all();
}

std::uint64_t Space::Watch::bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& place : places_) bytes += disk_bytes(place);
    return bytes;
}

void Space::Watch::set_pause(std::function<void(bool)> pause) {
    auto state = pause_.lock();
    state->set = std::move(pause);
    if (state->set && state->on) state->set(true);
}

void Space::Watch::pause(bool on) {
    auto state = pause_.lock();
    if (std::exchange(state->on, on) != on && state->set) state->set(on);
}

std::optional<Error> Space::Watch::refused() const { return *error_.lock(); }

std::unique_ptr<Space::Watch> Space::watch(std::string what, std::vector<std::string> places, const Stop& outer) {
    if (!limited()) return nullptr;
    // It begins with room for what it may write before anybody looks. Where there is none it may need none.
    const std::uint64_t margin = margin_of(limit_.max_bytes);
    if (used() + margin > limit()) {
        const auto taken = measure(limit_.measure);
        if (taken && *taken + margin > limit()) static_cast<void>(limit_.evict(*taken + margin - limit()));
        static_cast<void>(measure(limit_.measure));
    }
    auto watch = std::unique_ptr<Watch>(new Watch(*this, std::move(what), std::move(places), outer));
    {
        auto watches = watches_.lock();
        if (paused_) watch->pause(true);
        watches->push_back(watch.get());
    }
    watches_.notify_all();
    return watch;
}

// The guard. It must be on time when steps take all of the processor: only root may, others do what they can.
void Space::guard(const Stop& stop) noexcept {
    const sched_param first{.sched_priority = 1};
    if (::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first) != 0)
        static_cast<void>(::setpriority(PRIO_PROCESS, 0, -10));
    while (!stop.stop_requested()) {
        auto pause = kShortestTick;
        {
            auto watches = watches_.lock();
            if (!watches.wait(stop, [&] { return !watches->empty() && !paused_; })) return;
        }
        const std::uint64_t most = most_used();
        if (most > limit()) {
            pause_all(true);
        } else {
            pause = std::clamp<std::chrono::nanoseconds>(
                std::chrono::nanoseconds((limit() - most) / kFastestBytesPerNs), kShortestTick, kLongestTick);
        }
        auto watches = watches_.lock();
        watches.wait_for(stop, pause, [] { return false; });
    }
}

std::uint64_t Space::most_used() {
    auto watches = watches_.lock();
    const Measured last = *measured_.lock();
    const std::uint64_t free = free_bytes();
    const std::uint64_t written = last.free_bytes > free ? last.free_bytes - free : 0;
    std::uint64_t seen = page_->charged.load() - last.charged;
    for (Watch* watch : *watches) {
        auto& look = watch->seen_;
        // Those of many files are left to whole measurements.
        if (look.took < kLongestLook && SteadyClock::now() - look.at > look.took * kShareOfLooks) {
            const auto before = processor_time();
            look.bytes = watch->bytes();
            look.at = SteadyClock::now();
            look.took = processor_time() - before;
        }
        if (look.bytes > look.at_measure) seen += look.bytes - look.at_measure;
    }
    return last.used + std::max(written, seen);
}

void Space::pause_all(bool on) {
    auto watches = watches_.lock();
    paused_ = on;
    for (Watch* watch : *watches) watch->pause(on);
    watches_.notify_all();
}

// The keeper.
void Space::keep(const Stop& stop) noexcept {
    static_cast<void>(::setpriority(PRIO_PROCESS, 0, -10));
    while (true) {
        {
            auto watches = watches_.lock();
            if (!watches.wait(stop, [&] { return !watches->empty(); })) break;
            watches.wait_for(stop, kTick, [&] { return paused_.load(); });
        }
        if (stop.stop_requested()) break;
        if (!paused_) {
            keep_ahead();
        } else if (settle()) {
            pause_all(false);
        }
    }
    if (paused_) pause_all(false);
}

void Space::keep_ahead() noexcept {
    const Measured last = *measured_.lock();
    const auto since = SteadyClock::now() - last.at;
    const std::uint64_t margin = margin_of(limit_.max_bytes);
    const bool is_near = most_used() + margin > limit();
    if (since < (is_near ? last.took * kShareOfTime : SteadyClock::duration(kLookAtLeast))) return;
    const auto now = measure(limit_.measure);
    if (!now) {
        log::warn("the state directory cannot be measured", {{"error", now.error().to_string()}});
        return;
    }
    if (*now + margin <= limit() || SteadyClock::now() - evicted_at_ < kBetweenEvictions) return;
    evicted_at_ = SteadyClock::now();
    if (const auto evicted = limit_.evict(*now + margin - limit()); !evicted)
        log::warn("no cache can be removed", {{"error", evicted.error().to_string()}});
}

bool Space::settle() noexcept {
    const std::uint64_t free_before = free_bytes();
    const auto now = measure(limit_.measure);
    if (!now) {
        log::warn("the state directory cannot be measured", {{"error", now.error().to_string()}});
        return true;
    }
    if (*now <= limit()) return true;
    // Somebody who cannot be held up, or is within one long call to the kernel.
    const std::uint64_t margin = margin_of(limit_.max_bytes);
    const bool goes_on = free_bytes() + margin / 8 < free_before;
    const bool all_pause = std::ranges::all_of(*watches_.lock(), [](Watch* watch) { return watch->can_pause(); });
    if ((goes_on || !all_pause) && *now > limit() + margin / 2) stop_largest();
    const auto fits = make_room(0);
    if (!fits) log::warn("no cache can be removed", {{"error", fits.error().to_string()}});
    if (fits && *fits) return true;
    stop_largest();
    // The others wait until its files are gone.
    return watches_.lock()->empty();
}

std::uint64_t Space::leaving_bytes() {
    auto leaving = leaving_.lock();
    std::erase_if(*leaving, [](const Leaving& one) { return one.until < SteadyClock::now(); });
    std::uint64_t bytes = 0;
    for (const auto& one : *leaving)
        for (const auto& place : one.places) bytes += disk_bytes(place);
    return bytes;
}

// Who wrote the most goes, unless what those write that are going already is enough.
void Space::stop_largest() {
    const std::uint64_t used = this->used();
    std::uint64_t going = leaving_bytes();
    auto watches = watches_.lock();
    Watch* largest = nullptr;
    std::uint64_t most = 0;
    for (Watch* watch : *watches) {
        const std::uint64_t bytes = watch->bytes();
        if (watch->source_.stop_requested()) {
            going += bytes;
        } else if (largest == nullptr || bytes > most) {
            largest = watch;
            most = bytes;
        }
    }
    if (largest == nullptr || used <= limit() + going) return;
    // Finding words for it takes time.
    *largest->error_.lock() =
        fail(Code::resource_exhausted, Blame::user, "no space for what {} writes: {} may take {} (max-disk)",
             largest->what_, root_, human_size(limit_.max_bytes))
            .with_hint("raise max-disk; cooper du --why-kept says what holds the space");
    largest->source_.request_stop();
    *largest->error_.lock() = refusal(fmt::format("what {} writes", largest->what_), 0);
}

}  // namespace cooper::store
