/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everything that health and doctor can find wrong, once:
 * D(NAME, id, level, component, what, remedy). `/health`, `objectfsctl doctor` and the manual come
 * from here.
 *
 * Levels: FAILED something does not work; DEGRADED it works, and will not for long, or not for all;
 * ADVICE it works, and could be better or safer: it changes no state and no exit status.
 */
#ifndef OFS_ADMIN_FINDINGS_TABLE_H
#define OFS_ADMIN_FINDINGS_TABLE_H

#define OFS_FINDINGS_TABLE(D)                                                                      \
	D(CONFIG_BAD, "config-bad", FAILED, "configuration",                                       \
		"the configuration cannot be used",                                                \
		"correct what is named; objectfs-cached --check-config says when it is good")      \
	D(DAEMON_AWAY, "daemon-away", FAILED, "daemon", "the daemon does not answer",              \
		"start it: systemctl start objectfs-cached; if it ends again, its log says why")   \
	D(CORE_HANGS, "core-hangs", FAILED, "daemon",                                              \
		"the daemon's core, or a disk, has not answered in time",                          \
		"look at the log and at the disks; if it lasts, restart objectfs-cached: nothing " \
		"is lost by that")                                                                 \
	D(RIGHTS_MISSING, "rights-missing", FAILED, "daemon",                                      \
		"the daemon lacks capabilities it cannot work without",                            \
		"run it as root, in a container with these capabilities added")                    \
	D(RIGHTS_FEW, "rights-few", ADVICE, "daemon", "the daemon runs without some capabilities", \
		"add them to the container: records are then safe from the owners of files")       \
	D(HTTP_OFF, "http-off", DEGRADED, "daemon", "metrics and health pages are not served",     \
		"set http listen to a free address and port, or to nothing, and restart the "      \
		"daemon")                                                                          \
	D(STORE_AWAY, "store-away", FAILED, "store", "the object store is not reached",            \
		"check endpoint, network, name resolution and the store itself; the daemon tries " \
		"again by itself, and files that are here work meanwhile")                         \
	D(STORE_DENIED, "store-denied", FAILED, "store",                                           \
		"there are no credentials that the store takes, or a right is missing",            \
		"grant the right that is named (IAM.md), and the daemon goes on by itself: "       \
		"what waits is kept here and sent then; or correct the credentials where they are " \
		"from (keys in objectfs.conf: and restart the daemon)")                            \
	D(CREDENTIALS_OLD, "credentials-old", DEGRADED, "store",                                   \
		"new credentials for the store could not be had; the old ones are used until the " \
		"store refuses them",                                                              \
		"mend what the reason names; the daemon tries again by itself")                    \
	D(PARTS_LEFT, "parts-left", DEGRADED, "store",                                             \
		"multipart uploads that were given up stay in the bucket",                         \
		"grant s3:AbortMultipartUpload (IAM.md); a lifecycle rule with "                   \
		"AbortIncompleteMultipartUpload removes those that are there")                     \
	D(STORE_FAILING, "store-failing", DEGRADED, "store", "the last request to the store failed", \
		"check endpoint, network, credentials and the store itself; what waits is sent "   \
		"when it is back, and files that are here work meanwhile")                         \
	D(STORE_HELD, "store-held", FAILED, "store", "the bucket is not used, for safety",         \
		"restore the bucket, or point the volume at its own bucket and prefix; nothing is " \
		"removed here meanwhile; where it is gone for good, TROUBLESHOOTING.md says how "  \
		"what is here is put into another")                                                \
	D(BUCKET_GONE, "bucket-gone", FAILED, "store", "the bucket does not exist",                \
		"stop the daemon, make the bucket again with what was in it, start the daemon; "   \
		"or correct the volume's bucket; nothing is removed here meanwhile")               \
	D(OBJECT_DAMAGED, "object-damaged", DEGRADED, "store",                                     \
		"the store does not give out all bytes of an object, or other ones",               \
		"put an older version or a copy of the object in its place, then objectfsctl "     \
		"refresh and warm the file")                                                       \
	D(CLOCK_OFF, "clock-off", DEGRADED, "store",                                               \
		"the clocks of this machine and of the store differ",                              \
		"set the clock and keep it set (chrony, systemd-timesyncd): S3 refuses requests "  \
		"that are 15 minutes off")                                                         \
	D(FENCE_LESS, "fence-less", ADVICE, "store",                                               \
		"the store does not honour every condition: where it does not, the daemon looks "  \
		"right before it writes, and another writer may come in between",                  \
		"let one writer at a time have a name, or use a store that honours conditions on " \
		"Complete, Copy and Delete too; SEMANTICS.md says what is safe all the same")      \
	D(VERSIONS_KEPT, "versions-kept", ADVICE, "store",                                         \
		"the bucket keeps old versions, which are paid for; whether they expire is not "   \
		"looked at",                                                                       \
		"let a lifecycle rule with NoncurrentVersionExpiration cover the volume's prefix") \
	D(READ_ONLY, "read-only", DEGRADED, "store",                                               \
		"the bucket may be read by this version, and not written: clients cannot change anything", \
		"install the version that the other hosts of the volume have, and restart the daemon; " \
		"what waits here is sent then")                                                    \
	D(METADATA_UNPROVEN, "metadata-unproven", DEGRADED, "store",                               \
		"metadata in the bucket are not signed with the volume's key, and not believed",   \
		"find out who else writes to the bucket: the log names the objects and says why; "  \
		"they have the rights that their directories hand down until somebody sets others, " \
		"or an older version of the object is put back")                                   \
	D(REMOVALS_HELD, "removals-held", DEGRADED, "store",                                       \
		"much is missing in the bucket; it has not been removed here",                     \
		"restore the bucket, then objectfsctl refresh the directories; if the removal was " \
		"meant: objectfsctl accept-removals")                                               \
	D(RENAMES_HELD, "renames-held", DEGRADED, "store",                                         \
		"the rename of a directory is large, or dear, and has not begun in S3",            \
		"objectfsctl renames says how large; to let it begin: objectfsctl renames --allow PATH; " \
		"else rename the directory back (clients have the new name already)")              \
	D(CONFLICTS_MADE, "conflicts-made", ADVICE, "store",                                       \
		"files were written here and by somebody else at the same time: both versions are kept", \
		"objectfsctl conflicts says where they are: put together what belongs together, and " \
		"delete the copy; let one writer at a time have a name")                           \
	D(CONFLICTS_MANY, "conflicts-many", DEGRADED, "store",                                     \
		"more than 100 conflicts within an hour: files are not sent to S3",                \
		"find out who else writes to the bucket, or has restored it: objectfsctl conflicts " \
		"names the files; then objectfsctl accept-conflicts")        \
	D(MIRROR_BAD, "mirror-bad", FAILED, "mirror", "the mirror cannot be written",              \
		"check the file system below the cache directory: dmesg, mount options, fsck")     \
	D(MIRROR_FULL, "mirror-full", FAILED, "mirror", "the mirror's file system is full",        \
		"free space on it (or inodes, where none is left), or make it larger: clients cannot " \
		"write, nor read what is only in S3; what they wrote is kept, and sent once there is room") \
	D(DISK_FAILS, "disk-fails", DEGRADED, "mirror",                                            \
		"the local disk fails (input/output error) where changes are that S3 does not have yet", \
		"dmesg names the disk; objectfsctl pending names the files: they are kept here as they are, and " \
		"nothing of them is sent; put a good copy in the place of each (save it again, or from a " \
		"backup), or delete it, and replace the disk")                                     \
	D(CACHE_FULL, "cache-full", DEGRADED, "mirror",                                            \
		"writers are refused: the cache is full of what S3 does not have yet",             \
		"objectfsctl pending says what waits and why; it ends when enough is sent, or "    \
		"with a larger cache size or a larger file system")                                \
	D(MIRROR_UNSUITABLE, "mirror-unsuitable", FAILED, "mirror",                                \
		"this file system cannot carry a mirror",                                          \
		"put the cache directory on a local XFS or ext4")                                  \
	D(MIRROR_INODES, "mirror-inodes", ADVICE, "mirror",                                        \
		"inodes are too small for security descriptors: creating files is slow",           \
		"use XFS made with -i size=1024, or ext4 made with -I 1024 -O ea_inode")           \
	D(RECORDS_USER, "records-user", ADVICE, "mirror",                                          \
		"records are kept in user.objectfs, where owners of files can change them locally", \
		"run the daemon with CAP_SYS_ADMIN and a new cache directory")                     \
	D(READERS_UNGUARDED, "readers-unguarded", ADVICE, "mirror",                                \
		"some files are stubs: local programs that read the mirror read zeros",            \
		"guard = auto, a kernel of 6.14 or newer and CAP_SYS_ADMIN let them wait for the "  \
		"data; else let backups, indexers and virus scanners read the share over SMB, "    \
		"never the mirror")                                                                          \
	D(FILE_DAMAGED, "file-damaged", DEGRADED, "mirror",                                        \
		"a file on the local disk is not what S3 has of it any more",                      \
		"objectfsctl verify --repair fetches it again, once nobody has it open; then look at " \
		"disk and memory (dmesg, smartctl), and verify all")                               \
	D(BACKLOG_OLD, "backlog-old", DEGRADED, "backlog",                                         \
		"changes have been waiting for S3 too long",                                       \
		"objectfsctl pending says which and why; until they are in S3 they are on this "   \
		"machine's disk only")                                                             \
	D(ACCOUNTS_OTHER, "accounts-other", DEGRADED, "accounts",                          \
		"the rights in the bucket name users of another server",                   \
		"bring its accounts here (RECOVERY.md), with the command that the "        \
		"reason names; if other users are meant from now on: objectfsctl "         \
		"accept-accounts")                                                         \
	D(ACCOUNT_RENAMED, "account-renamed", DEGRADED, "accounts",                        \
		"somebody is not let in who would have the rights of another",             \
		"give each account the SID, uid or gid it had (RECOVERY.md); if it is "     \
		"the same person under a new name: objectfsctl accept-accounts")           \
	D(ACCOUNTS_UNKNOWN, "accounts-unknown", ADVICE, "accounts",                        \
		"the rights of a share's root name somebody whom this server does not know", \
		"if it is not one who has gone: give each account the SID, uid or gid it had " \
		"(RECOVERY.md)")                                                           \
	D(MODULE_MISSING, "module-missing", FAILED, "samba", "Samba has no module objectfs",       \
		"install objectfs.so into Samba's modules directory: make install")                \
	D(MODULE_OTHER, "module-other", FAILED, "samba",                                           \
		"the module was built for another Samba than the installed one",                   \
		"build and install it for this Samba before smbd is restarted: make, make "        \
		"install")                                                                         \
	D(SAMBA_CONF, "samba-conf", FAILED, "samba", "smb.conf cannot be read by testparm",        \
		"run testparm -s and correct what it names")                                       \
	D(SHARE_NONE, "share-none", ADVICE, "samba", "no share loads objectfs",                    \
		"add a share as in smb.conf.d/standalone.conf")                                    \
	D(SHARE_VOLUME, "share-volume", FAILED, "samba",                                           \
		"a share cannot be connected to: volume, path or socket do not match",             \
		"set objectfs:volume, path and objectfs:socket as the reason says")                \
	D(SHARE_SETTING, "share-setting", DEGRADED, "samba",                                       \
		"a share lacks a setting that ObjectFS needs",                                     \
		"set it in smb.conf as in smb.conf.d/standalone.conf, where its reason stands, "   \
		"then smbcontrol smbd reload-config")

#endif
