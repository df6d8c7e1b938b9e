/* A name service that hangs: names that end in ".hang" are looked up for a minute, in vain; so are all names while the file exists that
   NAMES_HANG names. "cached.test" is this machine. Everything else is the system's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    lookup *system_lookup = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *switch_file = getenv("NAMES_HANG");
    size_t length = name ? strlen(name) : 0;
    int hangs = length > 5 && strcmp(name + length - 5, ".hang") == 0;
    if (name && (hangs || (switch_file && access(switch_file, F_OK) == 0))) {
        sleep(60);
        return EAI_AGAIN;
    }
    if (name && strcmp(name, "cached.test") == 0)
        name = "127.0.0.1";
    return system_lookup(name, service, hints, found);
}
