#include "daemon/local_slots.hpp"

#include "sys/temp_dir.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <sys/stat.h>
#include <thread>

namespace cooper::daemon {

namespace {

class LocalSlotsTest : public ::testing::Test {
protected:
    std::unique_ptr<LocalSlots> open(const LocalSlotLimits& limits) {
        auto slots = LocalSlots::open(root_.path(), limits);
        EXPECT_TRUE(slots) << slots.error().to_string();
        return std::move(*slots);
    }
    std::size_t count() const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(root_.path() + "/locals"),
                                                      std::filesystem::directory_iterator()));
    }
    // As if it had been used so many days ago.
    void age(const std::string& files_path, int days) const {
        const timespec then{::time(nullptr) - static_cast<time_t>(days) * 86400, 0};
        const timespec times[] = {then, then};
        const std::string lock = std::filesystem::path(files_path).parent_path().string() + "/lock";
        ASSERT_EQ(::utimensat(AT_FDCWD, lock.c_str(), times, 0), 0);
    }

    sys::TempDir root_ = std::move(*sys::TempDir::create("/tmp", "slots-"));
};

}  // namespace

TEST_F(LocalSlotsTest, AKeyFindsWhatItLeft) {
    const auto slots = open({});
    std::string path;
    {
        const auto slot = std::move(*slots->acquire("context:a", {}));
        path = slot->host_path();
        std::ofstream(path + "/f") << "x";
    }
    const auto again = std::move(*slots->acquire("context:a", {}));
    EXPECT_EQ(again->host_path(), path);
    EXPECT_TRUE(again->files().stat("f", sys::Follow::no));
    EXPECT_NE((*slots->acquire("context:b", {}))->host_path(), path);
}

TEST_F(LocalSlotsTest, WhatIsHeldIsNotShared) {
    const auto slots = open({});
    const auto others = open({});  // another process
    std::set<std::string> paths;
    std::vector<std::unique_ptr<LocalSlot>> held;
    for (int i = 0; i < 6; ++i) {
        held.push_back(std::move(*(i % 2 == 0 ? slots : others)->acquire("k", {})));
        paths.insert(held.back()->host_path());
    }
    EXPECT_EQ(paths.size(), 6U);
    held.clear();
    EXPECT_TRUE(paths.contains((*slots->acquire("k", {}))->host_path()));
    EXPECT_EQ(count(), 6U);
}

TEST_F(LocalSlotsTest, OldAndSurplusSlotsGoUnlessTheyAreHeld) {
    const auto slots = open({});
    const auto held = std::move(*slots->acquire("held", {}));
    std::vector<std::string> paths;
    for (int i = 0; i < 5; ++i) {
        paths.push_back((*slots->acquire(fmt::format("k{}", i), {}))->host_path());
        age(paths.back(), i);
    }
    age(held->host_path(), 100);
    const LocalSlotLimits limits{.max_slots = 3, .max_age = std::chrono::days(2) + std::chrono::hours(1)};
    EXPECT_EQ(*slots->prune(limits, {}), 2U);
    EXPECT_TRUE(std::filesystem::exists(held->host_path()));
    EXPECT_TRUE(std::filesystem::exists(paths[2]));
    EXPECT_FALSE(std::filesystem::exists(paths[3]));
    EXPECT_EQ(*slots->prune({.max_slots = 1, .max_age = std::chrono::days(9)}, {}), 2U);
    EXPECT_TRUE(std::filesystem::exists(paths[0]));
}

TEST_F(LocalSlotsTest, HalfRemovedSlotsGoAtTheNextStart) {
    std::filesystem::create_directories(root_.path() + "/locals/removed.x.0/files/d");
    std::filesystem::create_directories(root_.path() + "/locals/removed.y.0");
    open({});
    EXPECT_EQ(count(), 0U);
}

TEST_F(LocalSlotsTest, PruningWhileOthersAcquireLosesNothing) {
    const auto slots = open({});
    std::atomic<bool> done = false;
    std::jthread pruner([&] {
        while (!done) EXPECT_TRUE(slots->prune({.max_slots = 0, .max_age = {}}, {}));
    });
    std::vector<std::jthread> users;
    for (int user = 0; user < 3; ++user) {
        users.emplace_back([&, user] {
            for (int i = 0; i < 100; ++i) {
                const auto slot = slots->acquire("same", {});
                ASSERT_TRUE(slot) << slot.error().to_string();
                const std::string file = (*slot)->host_path() + "/mine";
                std::ofstream(file) << user;
                int found = -1;
                std::ifstream(file) >> found;
                EXPECT_EQ(found, user);
            }
        });
    }
    users.clear();
    done = true;
}

TEST_F(LocalSlotsTest, AStopEndsTheSearch) {
    const auto slots = open({});
    StopSource stop;
    stop.request_stop();
    EXPECT_TRUE(slots->acquire("k", stop.get_token()).error().is_cancelled());
}

}  // namespace cooper::daemon
