/*
 * A libnvidia-ml.so.1 that tells what a text file says, for tests of the real bindings on machines without a GPU.
 *
 * The file is named by FAKE_NVML. One line a device, in NVML's own order; `name` comes last and takes the rest:
 *
 *     gpu uuid=GPU-1 pci=3b memory=81559 name=NVIDIA H100 80GB HBM3
 *     mig uuid=MIG-1 memory=4864 name=NVIDIA A100-SXM4-40GB MIG 1g.5gb
 *     hole
 *     init=9
 *     hang
 *
 * pci is the bus, hexadecimal. mig is a MIG device of the GPU above it, hole is a gap between them; `mig=on` puts a GPU
 * that has none into MIG mode. A value `!15` makes that getter return error 15 (GPU is lost), `handle=!15` the call
 * that gives the device's handle. init=N makes nvmlInit return N; `hang` makes it never return, `crash` ends the process.
 *
 * -DOLD leaves out what drivers before MIG do not have.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, MOST = 64 };

typedef struct {
    char kind[8]; /* gpu, mig or hole */
    char uuid[96], pci[32], memory[32], name[96], handle[8], mig[8], slices[8];
    int parent; /* of a mig or hole: index of its gpu */
} device;

typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} pci_info;

static device devices[MOST];
static int count;

static void copy(char *to, size_t room, const char *text)
{
    snprintf(to, room, "%s", text);
}

/* The value of `key=` in a line, up to a space, or to the end for the name. */
static void value(const char *line, const char *key, char *to, size_t room)
{
    char word[16];
    snprintf(word, sizeof word, " %s=", key);
    const char *at = strstr(line, word);
    if (!at)
        return;
    at += strlen(word);
    size_t length = strcmp(key, "name") ? strcspn(at, " \n") : strcspn(at, "\n");
    snprintf(to, room, "%.*s", (int)length, at);
}

static void add(const char *line)
{
    static int gpu;
    device *d = &devices[count];
    sscanf(line, "%7s", d->kind);
    if (!strcmp(d->kind, "gpu"))
        gpu = count;
    d->parent = gpu;
    value(line, "uuid", d->uuid, sizeof d->uuid);
    value(line, "pci", d->pci, sizeof d->pci);
    value(line, "memory", d->memory, sizeof d->memory);
    value(line, "name", d->name, sizeof d->name);
    value(line, "handle", d->handle, sizeof d->handle);
    value(line, "mig", d->mig, sizeof d->mig);
    value(line, "slices", d->slices, sizeof d->slices);
    count++;
}

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    int result = SUCCESS;
    while (file && fgets(line, sizeof line, file)) {
        if (!strncmp(line, "hang", 4))
            for (;;)
                pause();
        if (!strncmp(line, "crash", 5))
            raise(SIGSEGV);
        if (!sscanf(line, "init=%d", &result) && line[0] != '\n' && count < MOST)
            add(line);
    }
    return file ? result : 9; /* driver not loaded */
}

int nvmlShutdown(void)
{
    return SUCCESS;
}

const char *nvmlErrorString(int result)
{
    return result == 15 ? "GPU is lost" : "an error of the fake";
}

/* What `!15` as a value means. */
static int said(const char *text)
{
    return text[0] == '!' ? atoi(text + 1) : SUCCESS;
}

static int give(const char *text, char *to, unsigned room)
{
    if (!said(text) && strlen(text) >= room)
        return INSUFFICIENT_SIZE;
    if (!said(text))
        copy(to, room, text);
    return said(text);
}

int nvmlDeviceGetCount_v2(unsigned *number)
{
    *number = 0;
    for (int i = 0; i < count; i++)
        *number += !strcmp(devices[i].kind, "gpu");
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **handle)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(devices[i].kind, "gpu") && index-- == 0) {
            *handle = &devices[i];
            return said(devices[i].handle);
        }
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetUUID(device *d, char *uuid, unsigned room)
{
    return give(d->uuid, uuid, room);
}

int nvmlDeviceGetName(device *d, char *name, unsigned room)
{
    return give(d->name, name, room);
}

int nvmlDeviceGetPciInfo_v3(device *d, pci_info *pci)
{
    memset(pci, 0, sizeof *pci);
    pci->bus = strtoul(d->pci, NULL, 16);
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", 0u, pci->bus & 0xffu, 0u);
    return said(d->pci);
}

int nvmlDeviceGetMemoryInfo(device *d, unsigned long long memory[3])
{
    memory[0] = strtoull(d->memory, NULL, 10) << 20; /* total; then free and used */
    memory[1] = memory[0];
    memory[2] = 0;
    return said(d->memory);
}

#ifndef OLD
int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *number)
{
    *number = 0;
    for (int i = 0; i < count; i++)
        *number += &devices[i] != d && devices[i].parent == d - devices;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(device *d, unsigned *current, unsigned *pending)
{
    unsigned number;
    nvmlDeviceGetMaxMigDeviceCount(d, &number);
    *current = *pending = number || d->mig[0] == 'o';
    return !strstr(d->name, "A100") && !strstr(d->name, "H100") ? NOT_SUPPORTED : said(d->mig);
}

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **handle)
{
    device *mig = d + 1 + index;
    if (!strcmp(mig->kind, "hole"))
        return NOT_FOUND;
    *handle = mig;
    return said(mig->handle);
}

int nvmlDeviceGetAttributes_v2(device *d, void *attributes)
{
    struct {
        unsigned multiprocessors, engines[5], gpu_slices, compute_slices;
        unsigned long long memory;
    } *told = attributes;
    memset(told, 0, sizeof *told);
    told->gpu_slices = atoi(d->slices);
    return said(d->slices);
}
#endif
